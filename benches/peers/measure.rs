//! What `/proc` says of a process and all its descendants.

use std::io;
use std::time::Duration;

/// Ticks a second of the times in `/proc/PID/stat`: `USER_HZ`, which is 100 on every Linux that
/// runs these proxies (x86-64 and arm64).
const TICKS: u64 = 100;

/// Memory of a process tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident set, KiB.
    pub resident: u64,
    /// Anonymous resident pages (heap and stacks), KiB.
    pub anonymous: u64,
}

/// User and system time of `pid` and its descendants, those that have ended included.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut ticks = stat(pid)?.ticks;
    for child in tree(pid)?.into_iter().skip(1) {
        ticks += stat(child).map_or(0, |stat| stat.ticks);
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Memory of `pid` and its descendants.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let mut sum = Memory::default();
    for pid in tree(pid)? {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let field = |name: &str| -> u64 {
            rollup
                .lines()
                .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
                .unwrap_or(0)
        };
        sum.resident += field("Rss:");
        sum.anonymous += field("Anonymous:");
    }
    if sum.resident == 0 {
        return Err(io::Error::other(format!("process {pid} has no resident memory")));
    }
    Ok(sum)
}

/// `pid` and all its descendants.
pub fn tree(pid: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // A process that ended meanwhile is in its parent's cutime.
        if let Ok(stat) = stat(child) {
            parents.push((child, stat.parent));
        }
    }
    let mut pids = vec![pid];
    let mut next = 0;
    while let Some(parent) = pids.get(next).copied() {
        next += 1;
        pids.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
    }
    Ok(pids)
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> io::Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command name may hold spaces, so fields are counted after its closing bracket, where
    // the state is field 3: ppid is field 4, and utime, stime, cutime and cstime are 14 to 17.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let (Some(parent), Some(user), Some(system), Some(waited_user), Some(waited_system)) =
        (number(1), number(11), number(12), number(13), number(14))
    else {
        return Err(io::Error::other(format!("/proc/{pid}/stat is not as expected")));
    };
    let parent = u32::try_from(parent).map_err(io::Error::other)?;
    Ok(Stat { parent, ticks: user + system + waited_user + waited_system })
}
