//! The chart: for every line a group of bars, one a proxy, in relation to the best peer.

use std::fmt::Write;

use super::{Cell, Report, Row};
use crate::peers::Kind;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 96.0;
const BAR: f64 = 13.0;
const GAP: f64 = 18.0;
/// Bars beyond this are cut, with their number beside.
const LIMIT: f64 = 4.0;

/// Text and background change together with the reader's colour scheme, so the chart is legible
/// on any page. The bars' colours have contrast on both, and differ in lightness too.
const STYLE: &str = "
.card{fill:#ffffff;stroke:#d0d7de}.text{fill:#1f2328}.soft{fill:#59636e}
.grid{stroke:#d0d7de}.one{stroke:#59636e;stroke-dasharray:4 3}.cut{stroke:#ffffff;stroke-width:3}.note{paint-order:stroke;stroke:#ffffff;stroke-width:4px}
.portcullis{fill:#1a7f64}.baseline{fill:#7cc4ae}.nginx{fill:#5b84c4}.haproxy{fill:#d08a2e}.envoy{fill:#a06cc9}
@media (prefers-color-scheme:dark){
.card{fill:#0d1117;stroke:#30363d}.text{fill:#f0f6fc}.soft{fill:#9198a1}
.grid{stroke:#30363d}.one{stroke:#9198a1}.cut,.note{stroke:#0d1117}
.portcullis{fill:#3fb68f}.baseline{fill:#2a6b58}}
text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:13px}
.title{font-size:16px;font-weight:600}.value{font-size:11px}";

/// The whole chart as an SVG document.
pub fn render(report: &Report) -> String {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.best_peer().is_some()).collect();
    let bars: usize = rows.iter().map(|row| row.cells.len()).sum();
    let height = TOP + bars as f64 * BAR + rows.len() as f64 * GAP + 34.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"CPU and memory in relation to the best peer\">\n\
         <style>{STYLE}\n</style>\n\
         <rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n\
         <text class=\"text title\" x=\"20\" y=\"30\">CPU per request and memory per connection</text>\n\
         <text class=\"soft\" x=\"20\" y=\"50\">in relation to the best peer (1.0); less is better</text>\n",
        WIDTH - 1.0,
        height - 1.0
    );
    legend(&mut svg, report);
    grid(&mut svg, height - 30.0);
    let mut y = TOP;
    for row in rows {
        y = group(&mut svg, row, y + GAP / 2.0) + GAP / 2.0;
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String, report: &Report) {
    let mut x = 20.0;
    for column in &report.columns {
        let name = label(column.kind);
        let _ = writeln!(
            svg,
            "<rect class=\"{}\" x=\"{x}\" y=\"64\" width=\"12\" height=\"12\" rx=\"2\"/>\
             <text class=\"text\" x=\"{}\" y=\"75\">{name}</text>",
            column.kind.key(),
            x + 18.0
        );
        x += 40.0 + name.len() as f64 * 8.0;
    }
}

fn grid(svg: &mut String, bottom: f64) {
    for ratio in 0..=4 {
        let x = place(f64::from(ratio));
        let class = if ratio == 1 { "one" } else { "grid" };
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{x}\" x2=\"{x}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"soft value\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{ratio}x</text>",
            bottom + 16.0
        );
    }
}

fn group(svg: &mut String, row: &Row, top: f64) -> f64 {
    let middle = top + row.cells.len() as f64 * BAR / 2.0 + 4.5;
    let _ = writeln!(
        svg,
        "<text class=\"text\" x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
        LEFT - 10.0,
        row.line.short()
    );
    let mut y = top;
    for cell in &row.cells {
        bar(svg, row, cell, y);
        y += BAR;
    }
    y
}

fn bar(svg: &mut String, row: &Row, cell: &Cell, y: f64) {
    let figure = cell.median(|turn| Some(turn.figure));
    let (end, note) = match (row.ratio(cell), figure) {
        (Some(ratio), Some(figure)) => {
            let unit = if row.line.is_memory() { "KiB" } else { "us" };
            let figure =
                if figure < 100.0 { format!("{figure:.1}") } else { format!("{figure:.0}") };
            (place(ratio.min(LIMIT)), format!("{ratio:.2}x \u{2009} {figure} {unit}"))
        }
        _ => (LEFT, "unmeasured".to_owned()),
    };
    let beyond = end + 150.0 > WIDTH;
    let (x, anchor) = if beyond { (WIDTH - 8.0, "end") } else { (end + 6.0, "start") };
    let _ = writeln!(
        svg,
        "<rect class=\"{}\" x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\"/>\
         <text class=\"text value note\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{note}</text>",
        cell.kind.key(),
        end - LEFT,
        BAR - 2.0,
        y + BAR - 3.0
    );
    if row.ratio(cell).is_some_and(|ratio| ratio > LIMIT) {
        let (left, right, bottom) = (end - 16.0, end - 10.0, y + BAR);
        let _ = writeln!(
            svg,
            "<line class=\"cut\" x1=\"{left}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{}\"/>",
            y - 2.0
        );
    }
}

fn place(ratio: f64) -> f64 {
    LEFT + ratio / LIMIT * (WIDTH - LEFT - RIGHT - 60.0)
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Baseline => "Portcullis before",
        Kind::Envoy => "Envoy",
        Kind::Haproxy => "HAProxy",
        Kind::Nginx => "nginx",
        Kind::Portcullis => "Portcullis",
    }
}
