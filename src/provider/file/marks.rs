//! Marks by which a change of files is recognised without reading them.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::inputs::{Inputs, expand};

/// File times move in steps of a scheduler tick, at most 10 ms. A file changed this shortly before
/// it was read may change again without showing it, so its mark does not count.
const STEP: Duration = Duration::from_millis(20);

/// The state of every file as it was before it was read.
#[derive(Default)]
pub(super) struct Marks(BTreeMap<PathBuf, Mark>);

#[derive(PartialEq, Eq)]
enum Mark {
    Absent,
    /// Device, inode, size, and the time of the last change of content or inode.
    Settled(u64, u64, u64, i64, i64),
    /// Changed too recently to be told from its next state.
    Unsettled,
}

impl Marks {
    /// Marks the state of the file at `path`.
    pub fn take(&mut self, path: &Path) {
        self.0.insert(path.to_owned(), Mark::of(path));
    }

    /// Whether any file of `inputs`, or the list of files that `paths` stand for, may have
    /// changed.
    pub fn differ(&self, paths: &[PathBuf], inputs: &Inputs) -> bool {
        let now = paths.iter().filter_map(|path| expand(path).ok()).flatten();
        if !now.eq(inputs.documents().map(Path::to_owned)) {
            return true;
        }
        self.0.iter().any(|(path, mark)| *mark == Mark::Unsettled || *mark != Mark::of(path))
    }
}

impl Mark {
    fn of(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Err(_) => Self::Absent,
            Ok(metadata) if is_fresh(&metadata) => Self::Unsettled,
            Ok(m) => Self::Settled(m.dev(), m.ino(), m.len(), m.ctime(), m.ctime_nsec()),
        }
    }
}

fn is_fresh(metadata: &Metadata) -> bool {
    let seconds = u64::try_from(metadata.ctime()).unwrap_or_default();
    let nanos = u32::try_from(metadata.ctime_nsec()).unwrap_or_default();
    let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
    // A time in the future says that the clock was set; then the next change shows.
    SystemTime::now().duration_since(changed).is_ok_and(|age| age < STEP)
}
