//! Status classes.

use super::shard::Count;

/// The class of a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeClass(u8);

impl CodeClass {
    const LABELS: [&str; 6] = ["-", "1xx", "2xx", "3xx", "4xx", "5xx"];

    /// The class of `status`; what is no status (0 for none sent) has a class of its own.
    #[inline]
    pub(crate) fn of(status: u16) -> Self {
        match status / 100 {
            class @ 1..=5 => Self(class as u8),
            _ => Self(0),
        }
    }

    /// The label value: `2xx`, or `-` for no status.
    pub(crate) fn label(self) -> &'static str {
        Self::LABELS.get(usize::from(self.0)).copied().unwrap_or("-")
    }
}

/// Counts by status class with one writer.
#[derive(Debug, Default)]
pub(crate) struct CodeCounts([Count; 6]);

impl CodeCounts {
    /// Adds one; only the owning worker may call this.
    #[inline]
    pub(crate) fn add(&self, class: CodeClass) {
        if let Some(count) = self.0.get(usize::from(class.0)) {
            count.add(1);
        }
    }

    /// Adds these counts to `totals`.
    pub(crate) fn add_to(&self, totals: &mut CodeTotals) {
        for (total, count) in totals.0.iter_mut().zip(&self.0) {
            *total += count.get();
        }
    }
}

/// Counts by status class of several workers.
#[derive(Debug, Default)]
pub(crate) struct CodeTotals([u64; 6]);

impl CodeTotals {
    /// The classes that occurred, with their counts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (CodeClass, u64)> {
        (0u8..).map(CodeClass).zip(self.0).filter(|(_, count)| *count > 0)
    }
}
