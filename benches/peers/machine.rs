//! The machine: which cores are whose, and what to say about it next to the figures.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of a run, as CPU numbers.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    pub proxy: usize,
    pub load: usize,
}

impl Cores {
    /// Takes the first two CPUs this process may use; where there is only one, both share it.
    pub fn choose() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let load = cpus.next().ok_or_else(|| io::Error::other("no CPU is allowed"))?;
        Ok(Self { load, proxy: cpus.next().unwrap_or(load) })
    }

    /// Pins the calling thread, and those it will start, to the load's core.
    pub fn pin_load(self) -> io::Result<()> {
        let mut set = CpuSet::new();
        set.set(self.load);
        Ok(sched_setaffinity(None, &set)?)
    }
}

/// The processor's name, the kernel's version and the number of CPUs.
pub fn describe() -> (String, String, usize) {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    // The rest of a release is its builder's.
    let kernel: Vec<&str> = kernel.trim().split(['.', '-']).take(2).collect();
    (model.to_owned(), kernel.join("."), count)
}

/// How many files this process may open.
pub fn file_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    limits
        .lines()
        .find_map(|line| {
            line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok()
        })
        .unwrap_or(1024)
}
