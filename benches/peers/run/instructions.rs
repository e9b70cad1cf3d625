//! Instructions per request under callgrind: the same to a fraction of a percent from run to run,
//! so it is a gate for regressions where time is too noisy. User side only.

use std::io;
use std::path::Path;
use std::process::Command;

use super::{Bench, turn};
use crate::load::Extent;
use crate::options::{Line, scratch};
use crate::peers::{Kind, Proxy};

/// Prints instructions per request of each line that has them; false says that Portcullis could
/// not be measured on one.
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
            let figure = count(bench, line, *kind, requests);
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

/// Instructions of one request: the difference between `requests` and twice as many in the same
/// process, so that starting, connecting and handshakes count for nothing.
fn count(bench: &Bench<'_>, line: Line, kind: Kind, requests: u64) -> io::Result<f64> {
    let dir = scratch().join("callgrind");
    std::fs::create_dir_all(&dir)?;
    for old in std::fs::read_dir(&dir)?.flatten() {
        std::fs::remove_file(old.path())?;
    }
    let wrapper = [
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        // Starting is not of interest, and AWS-LC gathers jitter entropy then: never the same.
        "--instr-atstart=no".to_owned(),
        format!("--callgrind-out-file={}/%p", dir.display()),
    ];
    let proxy = bench.start(kind, &wrapper)?;
    let load = |requests| -> io::Result<()> {
        let counted = turn::generate(bench, line, &proxy, Extent::Requests(requests), Some(1))?;
        if counted.errors == 0 && counted.requests == requests {
            return Ok(());
        }
        let first = counted.first_error.unwrap_or_else(|| "too slow".into());
        Err(io::Error::other(format!("{} requests answered: {first}", counted.requests)))
    };
    load(200)?;
    control(&proxy, &["--instr=on"])?;
    load(200)?;
    control(&proxy, &["--zero"])?;
    load(requests)?;
    control(&proxy, &["--dump"])?;
    load(requests * 2)?;
    control(&proxy, &["--dump"])?;
    let (once, twice) = (total(&dir, "1")?, total(&dir, "2")?);
    Ok((twice as f64 - once as f64) / requests as f64)
}

fn control(proxy: &Proxy, arguments: &[&str]) -> io::Result<()> {
    let pids = proxy.processes()?.into_iter().map(|pid| pid.to_string());
    let output = Command::new("callgrind_control").args(arguments).args(pids).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("callgrind_control {}: {text}", arguments.join(" "))))
}

/// Instructions in the dump of that number, over all processes.
fn total(dir: &Path, dump: &str) -> io::Result<u64> {
    let mut sum = 0;
    for file in std::fs::read_dir(dir)?.flatten().map(|entry| entry.path()) {
        if file.extension().is_some_and(|extension| extension == dump) {
            let text = std::fs::read_to_string(file)?;
            let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
            sum += total.and_then(|total| total.trim().parse::<u64>().ok()).unwrap_or(0);
        }
    }
    if sum == 0 { Err(io::Error::other("callgrind wrote no totals")) } else { Ok(sum) }
}
