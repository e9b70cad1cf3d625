//! `cargo bench --bench peers`: nginx, HAProxy and Envoy beside Portcullis, on the same machine, in
//! the same run, doing the same work.
//!
//! The proxy under test has one worker and one core; the load generator and the back end share
//! another. Proxies take turns in every round, the order changes each round, and what is printed
//! is the median of the rounds and the ratio to the best peer. See `benches/README.md`.

mod certificate;
mod load;
mod machine;
mod measure;
mod options;
mod peers;
mod report;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` runs this binary too; it must install and load nothing there.
        println!("peers: run me with `cargo bench --bench peers`");
        return ExitCode::SUCCESS;
    }
    let options = match options::Options::read(&arguments) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("peers: {problem}");
            return ExitCode::from(2);
        }
    };
    match run::run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}
