//! Instructions per request under callgrind: the same to a fraction of a percent from run to run,
//! so it is a gate for regressions where time is too noisy. User side only.

use std::io;
use std::process::Command;
use std::time::Duration;

use super::{Bench, turn};
use crate::load::Extent;
use crate::options::{Line, scratch};
use crate::peers::Kind;

/// Prints instructions per request of each line that has them, from the difference between a run
/// of `requests` and one of twice as many, so that start and stop count for nothing.
pub fn run(bench: &Bench<'_>, requests: u64) -> io::Result<bool> {
    let valgrind = Command::new("valgrind").arg("--version").output();
    if !valgrind.is_ok_and(|output| output.status.success()) {
        return Err(io::Error::other("valgrind is not installed (Debian package valgrind)"));
    }
    let counted = [Line::H1, Line::H1Tls, Line::H2Tls, Line::Body64k];
    let mut complete = true;
    println!("instructions per request (user side, one connection, {requests} requests)");
    for line in counted.into_iter().filter(|line| bench.options.lines.contains(line)) {
        // Envoy takes minutes to start under callgrind.
        for (kind, _) in bench.binaries.iter().filter(|(kind, _)| *kind != Kind::Envoy) {
            let figure = count(bench, line, *kind, requests).and_then(|once| {
                let twice = count(bench, line, *kind, requests * 2)?;
                Ok(twice.saturating_sub(once) as f64 / requests as f64)
            });
            match figure {
                Ok(figure) => println!("{:<12} {:<12} {figure:>12.0}", line.key(), kind.key()),
                Err(error) => {
                    println!("{:<12} {:<12}   UNMEASURED ({error})", line.key(), kind.key());
                    complete &= *kind != Kind::Portcullis;
                }
            }
        }
    }
    Ok(complete)
}

fn count(bench: &Bench<'_>, line: Line, kind: Kind, requests: u64) -> io::Result<u64> {
    let dir = scratch().join("callgrind");
    std::fs::create_dir_all(&dir)?;
    for old in std::fs::read_dir(&dir)?.flatten() {
        std::fs::remove_file(old.path())?;
    }
    let wrapper = [
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}/%p", dir.display()),
    ];
    let mut proxy = bench.start(kind, &wrapper)?;
    let counted = turn::generate(bench, line, &proxy, Extent::Requests(requests), Some(1))?;
    if counted.errors > 0 || counted.requests != requests {
        let first = counted.first_error.unwrap_or_else(|| "too slow".into());
        return Err(io::Error::other(format!("{} requests answered: {first}", counted.requests)));
    }
    proxy.stop(Duration::from_secs(60));
    let mut sum = 0;
    for file in std::fs::read_dir(&dir)?.flatten() {
        let text = std::fs::read_to_string(file.path())?;
        let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
        sum += total.and_then(|total| total.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    if sum == 0 { Err(io::Error::other("callgrind wrote no totals")) } else { Ok(sum) }
}
