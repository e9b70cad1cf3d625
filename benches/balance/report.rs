//! The table.

use super::sim::{Outcome, Scenario};

/// One policy in one world.
pub struct Row {
    /// The policy.
    pub policy: &'static str,
    /// What it showed.
    pub outcome: Outcome,
}

/// One world with a number of workers.
pub struct Section {
    /// The world's name.
    pub scenario: &'static str,
    /// How many workers picked.
    pub workers: usize,
    /// The policies.
    pub rows: Vec<Row>,
}

/// Everything that was run.
#[derive(Default)]
pub struct Report {
    /// In order.
    pub sections: Vec<Section>,
}

impl Report {
    /// Prints the rows and keeps them.
    pub fn add(&mut self, scenario: &Scenario, workers: usize, rows: Vec<Row>) {
        println!("\n{}, {workers} worker(s): {}", scenario.name, scenario.about);
        println!(
            "{:<24}{:>10}{:>10}{:>10}{:>10}{:>10}{:>9}{:>10}",
            "", "success %", "p50 ms", "p99 ms", "p99.9 ms", "max/mean", "retries", "share 0 %"
        );
        for Row { policy, outcome } in &rows {
            let all: u64 = outcome.attempts.iter().sum();
            let first = outcome.attempts.first().copied().unwrap_or(0);
            println!(
                "{policy:<24}{:>10.3}{:>10.1}{:>10.1}{:>10.1}{:>10.2}{:>9}{:>10.1}",
                outcome.success() * 100.0,
                outcome.quantile(0.5),
                outcome.quantile(0.99),
                outcome.quantile(0.999),
                outcome.spread,
                outcome.retries,
                first as f64 * 100.0 / all.max(1) as f64,
            );
        }
        self.sections.push(Section { scenario: scenario.name, workers, rows });
    }
}
