//! From what providers say to what workers serve: merge, compile, publish.
//!
//! Runs on the control runtime, never on a worker. It does not know the providers (they reach it
//! as [`Feed`]s) nor the server (it asks for listeners through [`Listeners`]). The last good
//! state stays whatever comes in.

mod findings;
mod merge;
mod publish;
mod resolve;
mod state;

pub use findings::Findings;
pub use merge::merge;
pub use publish::{Control, Listeners};
pub use resolve::{Question, Resolver};
pub use state::{ControlState, ReloadReport};

use std::sync::Arc;

use crate::ir::{Fragment, Problem};

/// What one provider said last.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    /// Its last usable fragment; `None` before there was one.
    pub fragment: Option<Arc<Fragment>>,
    /// What it found wrong.
    pub problems: Vec<Problem>,
    /// Whether what it saw last is in use; if not, `fragment` is older.
    pub accepted: bool,
}
