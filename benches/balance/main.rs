//! The balancers in simulated worlds: `cargo bench --bench balance`.
//!
//! Deterministic: the same seed prints the same table on every machine. See benches/README.md.

mod chart;
mod policy;
mod report;
mod scenario;
mod server;
mod sim;

use std::process::ExitCode;

use sim::Sim;

const SEED: u64 = 20_261_122;

fn main() -> ExitCode {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let policies = policy::all();
    let mut report = report::Report::default();
    println!("seed {SEED}");
    for scenario in scenario::all() {
        if !wanted.is_empty() && !wanted.iter().any(|name| scenario.name.contains(name.as_str())) {
            continue;
        }
        for workers in [1, 8] {
            let rows = policies.iter().map(|policy| {
                let outcome = Sim::new(&scenario, &policy.spec, workers, SEED).run();
                report::Row { policy: policy.name, outcome }
            });
            let rows = rows.collect();
            report.add(&scenario, workers, rows);
        }
    }
    match std::env::var_os("PORTCULLIS_BENCH_OUT").map(std::path::PathBuf::from) {
        None => ExitCode::SUCCESS,
        Some(path) => match std::fs::write(&path, chart::render(&report)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cannot write {}: {error}", path.display());
                ExitCode::FAILURE
            }
        },
    }
}
