//! The course of a run: every line, every round, every proxy in turn.

mod instructions;
mod turn;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::thread;

use crate::certificate::Certificate;
use crate::load;
use crate::machine::{self, Cores};
use crate::options::{Line, Options, scratch};
use crate::peers::{Ground, Kind, Proxy, install};
use crate::report::{self, Column, Report, Row};

/// What all turns of a run share.
#[derive(Debug)]
struct Bench<'a> {
    options: &'a Options,
    ground: Ground,
    binaries: Vec<(Kind, Result<PathBuf, String>)>,
}

/// Runs everything and reports; false says that Portcullis could not be measured where it was
/// asked to be.
pub fn run(options: &Options) -> io::Result<bool> {
    std::fs::create_dir_all(scratch())?;
    let _alone = alone()?;
    let deadline = options.deadline();
    thread::spawn(move || {
        thread::sleep(deadline);
        eprintln!("peers: not finished after {} s, giving up", deadline.as_secs());
        // Proxies are told of their parent's death by the kernel.
        std::process::exit(1);
    });
    let binaries: Vec<_> =
        options.peers.iter().map(|kind| (*kind, install::binary(*kind, options))).collect();
    for (kind, binary) in &binaries {
        if let Err(problem) = binary {
            eprintln!("peers: going on without {}: {problem}", kind.key());
        }
    }
    let cores = Cores::choose()?;
    if cores.proxy == cores.load {
        eprintln!("peers: there is one CPU only; proxy and load share it");
    }
    cores.pin_load()?;
    let certificate = Certificate::make(&scratch())?;
    let backend = load::backend::start()?;
    let ground = Ground {
        backend,
        certificate,
        cores,
        tuned: options.tuned,
        single_process: options.instructions.is_some(),
    };
    let bench = Bench { options, ground, binaries };
    if let Some(requests) = options.instructions {
        return instructions::run(&bench, requests);
    }
    let columns = bench.columns();
    let mut report = Report { machine: machine::describe(), cores, columns, rows: Vec::new() };
    for line in &options.lines {
        let row = bench.line(*line)?;
        report::table::print(&row, &report.columns);
        report.rows.push(row);
    }
    report::table::verdict(&report);
    report::write(&report, options)?;
    Ok(report.complete(Kind::Portcullis))
}

/// Waits until no other bench runs on this machine; the lock lasts as long as the file is open.
fn alone() -> io::Result<File> {
    let path = std::env::temp_dir().join("portcullis-bench-peers.lock");
    let file = File::create(&path)?;
    if file.try_lock().is_err() {
        eprintln!("peers: waiting for another bench on this machine ({})", path.display());
        file.lock()?;
    }
    Ok(file)
}

impl Bench<'_> {
    fn columns(&self) -> Vec<Column> {
        self.binaries
            .iter()
            .map(|(kind, binary)| Column {
                kind: *kind,
                version: binary
                    .as_ref()
                    .map_or_else(|_| "absent".into(), |path| kind.version(path)),
            })
            .collect()
    }

    fn start(&self, kind: Kind, wrapper: &[String]) -> io::Result<Proxy> {
        let binary = self.binaries.iter().find(|(of, _)| *of == kind).map(|(_, binary)| binary);
        match binary {
            Some(Ok(path)) => Proxy::start(kind, path, &self.ground, wrapper),
            Some(Err(problem)) => Err(io::Error::other(problem.clone())),
            None => Err(io::Error::other("not asked for")),
        }
    }

    /// All rounds of one line.
    fn line(&self, line: Line) -> io::Result<Row> {
        let mut row = Row::new(line, self.binaries.iter().map(|(kind, _)| *kind));
        let mut proxies: Vec<Option<Proxy>> = Vec::new();
        for cell in &mut row.cells {
            // Memory is measured on fresh processes, turn by turn.
            proxies.push(match self.start(cell.kind, &[]) {
                Ok(proxy) if !line.is_memory() => Some(proxy),
                Ok(_) => None,
                Err(error) => {
                    cell.failure = Some(error.to_string());
                    None
                }
            });
        }
        let rounds =
            if line.is_memory() { self.options.rounds.min(3) } else { self.options.rounds };
        for round in 0..rounds {
            for index in order(row.cells.len(), round) {
                let cell = &mut row.cells[index];
                if cell.failure.is_some() {
                    continue;
                }
                let turn = match &proxies[index] {
                    Some(proxy) => turn::load(self, line, proxy),
                    None => {
                        self.start(cell.kind, &[]).and_then(|proxy| turn::idle(self, line, &proxy))
                    }
                };
                let shown = match turn {
                    Ok(turn) => {
                        cell.rounds.push(turn);
                        format!("{:.2} {}", turn.figure, row.unit)
                    }
                    Err(error) => {
                        let shown = format!("void: {error}");
                        cell.failure = Some(error.to_string());
                        shown
                    }
                };
                eprintln!(
                    "peers: {} round {}/{rounds} {}: {shown}",
                    line.key(),
                    round + 1,
                    cell.kind.key()
                );
            }
        }
        Ok(row)
    }
}

/// Whose turn it is when: another one begins each round, and every second round goes backwards.
fn order(count: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.rotate_left(round % count.max(1));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}
