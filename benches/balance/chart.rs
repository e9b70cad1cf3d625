//! The chart: a panel for every world, a bar for every policy.

use std::fmt::Write;

use super::report::{Report, Section};

const WIDTH: f64 = 860.0;
const PANEL: f64 = 410.0;
const LEFT: f64 = 158.0;
const BAR: f64 = 15.0;
const HEAD: f64 = 46.0;
/// Latencies run from here to `TO` on a logarithmic scale, in milliseconds.
const FROM: f64 = 10.0;
const TO: f64 = 1000.0;

/// Legible on light and dark pages.
const STYLE: &str = "
.card{fill:#ffffff;stroke:#d0d7de}.text{fill:#1f2328}.soft{fill:#59636e}.grid{stroke:#d0d7de}
.own{fill:#1a7f64}.other{fill:#8fa6c4}.bad{fill:#c2412d}
@media (prefers-color-scheme:dark){
.card{fill:#0d1117;stroke:#30363d}.text{fill:#f0f6fc}.soft{fill:#9198a1}.grid{stroke:#30363d}
.own{fill:#3fb68f}.other{fill:#546a8a}.bad{fill:#f0806c}}
text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px}
.title{font-size:16px;font-weight:600}.name{font-weight:600}.value{font-size:11px}";

/// The worlds with the most workers, as an SVG document.
pub fn render(report: &Report) -> String {
    let most = report.sections.iter().map(|section| section.workers).max().unwrap_or(0);
    let sections: Vec<&Section> =
        report.sections.iter().filter(|section| section.workers == most).collect();
    let rows = sections.first().map_or(0, |section| section.rows.len());
    let panel = HEAD + rows as f64 * BAR + 14.0;
    let height = 64.0 + sections.len().div_ceil(2) as f64 * panel + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"p99 latency of each balancing policy in simulated worlds\">\n\
         <style>{STYLE}\n</style>\n\
         <rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n\
         <text class=\"text title\" x=\"20\" y=\"30\">p99 latency by balancing policy, simulated</text>\n\
         <text class=\"soft\" x=\"20\" y=\"50\">milliseconds, logarithmic, clients give up at 1 s; {most} workers; \
         in red the share of requests that failed, where over 0.1 %</text>\n",
        WIDTH - 1.0,
        height - 1.0
    );
    for (index, section) in sections.iter().enumerate() {
        let x = 20.0 + (index % 2) as f64 * PANEL;
        let y = 64.0 + (index / 2) as f64 * panel;
        draw(&mut svg, section, x, y);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, section: &Section, x: f64, y: f64) {
    let _ = writeln!(
        svg,
        "<text class=\"text name\" x=\"{x}\" y=\"{}\">{}</text>",
        y + 22.0,
        section.scenario
    );
    for ms in [10.0, 100.0, 1000.0] {
        let at = x + LEFT + place(ms);
        let bottom = y + HEAD + section.rows.len() as f64 * BAR;
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at}\" x2=\"{at}\" y1=\"{}\" y2=\"{bottom}\"/>\
             <text class=\"soft value\" x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{ms}</text>",
            y + HEAD - 8.0,
            y + HEAD - 12.0
        );
    }
    for (index, row) in section.rows.iter().enumerate() {
        let top = y + HEAD + index as f64 * BAR;
        let p99 = row.outcome.quantile(0.99);
        let class = if index == 0 { "own" } else { "other" };
        let length = place(p99).max(1.0);
        let middle = top + BAR - 4.0;
        let _ = writeln!(
            svg,
            "<text class=\"text value\" x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" rx=\"2\"/>\
             <text class=\"soft value\" x=\"{:.1}\" y=\"{middle}\">{p99:.0}{}</text>",
            x + LEFT - 8.0,
            row.policy,
            x + LEFT,
            top + 1.5,
            BAR - 3.0,
            x + LEFT + length + 5.0,
            failed(1.0 - row.outcome.success())
        );
    }
}

fn failed(share: f64) -> String {
    if share <= 0.001 {
        return String::new();
    }
    format!("  <tspan class=\"bad\">{:.1} %</tspan>", share * 100.0)
}

fn place(ms: f64) -> f64 {
    let scale = (ms.clamp(FROM, TO) / FROM).ln() / (TO / FROM).ln();
    scale * (PANEL - LEFT - 80.0)
}
