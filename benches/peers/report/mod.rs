//! What was measured, and the three forms it is told in: a table, JSON and a chart.

mod json;
mod svg;
pub mod table;

use std::io;

use crate::machine::Cores;
use crate::options::{Line, Options};
use crate::peers::Kind;

/// The outcome of a run.
#[derive(Debug)]
pub struct Report {
    /// Processor, kernel release, number of CPUs.
    pub machine: (String, String, usize),
    pub cores: Cores,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

/// A proxy that took part.
#[derive(Debug)]
pub struct Column {
    pub kind: Kind,
    pub version: String,
}

/// One line's results.
#[derive(Debug)]
pub struct Row {
    pub line: Line,
    /// The unit of the figures.
    pub unit: &'static str,
    pub cells: Vec<Cell>,
}

/// One proxy's results on one line.
#[derive(Debug)]
pub struct Cell {
    pub kind: Kind,
    pub rounds: Vec<Turn>,
    /// Why there is no figure.
    pub failure: Option<String>,
}

/// The figures of one turn.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// CPU microseconds per request, or KiB of heap per connection: what is compared.
    pub figure: f64,
    /// Requests a second.
    pub rate: Option<f64>,
    /// Latencies, microseconds.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    /// The share of its core that the proxy used.
    pub busy: Option<f64>,
    /// KiB of resident set per connection.
    pub resident: Option<f64>,
}

impl Report {
    /// Whether `kind` was to be measured and was, on every line.
    pub fn complete(&self, kind: Kind) -> bool {
        self.rows
            .iter()
            .all(|row| row.cell(kind).is_none_or(|cell| cell.median(|t| Some(t.figure)).is_some()))
    }
}

impl Row {
    /// A row without figures yet.
    pub fn new(line: Line, kinds: impl Iterator<Item = Kind>) -> Self {
        let cell = |kind| Cell { kind, rounds: Vec::new(), failure: None };
        let unit = if line.is_memory() { "KiB/conn" } else { "us/req" };
        Self { line, unit, cells: kinds.map(cell).collect() }
    }

    /// The cell of `kind`.
    pub fn cell(&self, kind: Kind) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.kind == kind)
    }

    /// The peer with the lowest median.
    pub fn best_peer(&self) -> Option<&Cell> {
        self.best_of(Kind::is_peer)
    }

    /// Of those that `wanted` takes, the one with the lowest median.
    pub fn best_of(&self, wanted: fn(Kind) -> bool) -> Option<&Cell> {
        let figure = |cell: &Cell| cell.median(|turn| Some(turn.figure));
        self.cells
            .iter()
            .filter(|cell| wanted(cell.kind))
            .filter_map(|cell| Some((cell, figure(cell)?)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
            .map(|(cell, _)| cell)
    }

    /// `cell` in relation to the best peer.
    pub fn ratio(&self, cell: &Cell) -> Option<f64> {
        cell.relative_to(self.best_peer()?)
    }
}

impl Cell {
    /// The median over the rounds of what `pick` takes; `None` where it could not be measured.
    pub fn median(&self, pick: impl Fn(&Turn) -> Option<f64>) -> Option<f64> {
        if self.failure.is_some() {
            return None;
        }
        median(self.rounds.iter().filter_map(pick))
    }

    /// This cell's figure in relation to another's: the median of the rounds' ratios, so that what
    /// slows a whole round cancels out.
    pub fn relative_to(&self, other: &Cell) -> Option<f64> {
        self.median(|turn| Some(turn.figure))?;
        median(self.rounds.iter().zip(&other.rounds).map(|(own, other)| own.figure / other.figure))
    }

    /// How far the rounds lie apart, as a share of the median.
    pub fn spread(&self) -> Option<f64> {
        let middle = self.median(|turn| Some(turn.figure))?;
        let figures = self.rounds.iter().map(|turn| turn.figure);
        let (low, high) =
            figures.fold((f64::MAX, f64::MIN), |(low, high), f| (low.min(f), high.max(f)));
        Some((high - low) / middle)
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle)?;
    if values.len() % 2 == 1 { Some(*upper) } else { Some((values[middle - 1] + upper) / 2.0) }
}

/// Writes the JSON and the chart and says where.
pub fn write(report: &Report, options: &Options) -> io::Result<()> {
    let chart = options.output.with_extension("svg");
    if let Some(dir) = options.output.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(&options.output, json::render(report, options)?)?;
    std::fs::write(&chart, svg::render(report))?;
    println!("\nwritten: {} and {}", options.output.display(), chart.display());
    Ok(())
}
