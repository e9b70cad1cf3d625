//! What the kernel tells of this process.

/// Ticks of a second in `/proc`: what Linux shows programs, whatever it counts in itself.
const TICKS: f64 = 100.0;

/// The process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub cpu_seconds: f64,
    /// Unix time.
    pub started: f64,
    pub resident_bytes: f64,
    pub virtual_bytes: f64,
    pub read_bytes: f64,
    pub written_bytes: f64,
}

impl Process {
    /// This process now; `None` where the kernel does not tell.
    pub(super) fn now() -> Option<Self> {
        let read = |file: &str| std::fs::read_to_string(file).ok();
        let (stat, status) = (read("/proc/self/stat")?, read("/proc/self/status")?);
        // Not every kernel counts these.
        let io = read("/proc/self/io").unwrap_or_default();
        let booted = field(&read("/proc/stat")?, "btime ")?;
        Self::parse(&stat, &status, &io, booted)
    }

    fn parse(stat: &str, status: &str, io: &str, booted: f64) -> Option<Self> {
        // The second field is the program's name, in which there may be anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let number = |field: usize| rest.split_ascii_whitespace().nth(field - 3)?.parse().ok();
        let (user, system, started): (f64, f64, f64) = (number(14)?, number(15)?, number(22)?);
        Some(Self {
            cpu_seconds: (user + system) / TICKS,
            started: booted + started / TICKS,
            resident_bytes: 1024.0 * field(status, "VmRSS:")?,
            virtual_bytes: 1024.0 * field(status, "VmSize:")?,
            read_bytes: field(io, "read_bytes:").unwrap_or_default(),
            written_bytes: field(io, "write_bytes:").unwrap_or_default(),
        })
    }
}

/// The number behind `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 5 0 1200 99 88";
        let status = "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let io = "rchar: 5\nread_bytes: 4096\nwrite_bytes: 8192\n";
        let wanted = Process {
            cpu_seconds: 2.0,
            started: 1012.0,
            resident_bytes: 1_048_576.0,
            virtual_bytes: 2_097_152.0,
            read_bytes: 4096.0,
            written_bytes: 8192.0,
        };
        assert_eq!(Process::parse(stat, status, io, 1000.0), Some(wanted));
        assert_eq!(Process::parse("7 (a", status, io, 0.0), None);
        assert!(Process::parse(stat, status, "", 0.0).is_some());
    }
}
