//! What became of reports of load, as labels say it.

/// What became of a report of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportResult {
    /// It counts.
    Accepted,
    /// It was polled, and no answer with status 200 came.
    Failed,
    /// It could not be read.
    Malformed,
}

impl ReportResult {
    /// The result as it stands in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Failed => "failed",
            Self::Malformed => "malformed",
        }
    }
}
