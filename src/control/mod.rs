//! From what providers say to what workers serve: merge, compile, publish.
//!
//! Runs on the control runtime, never on a worker. It does not know the providers (they reach it
//! as [`Said`]) nor the server (it asks for listeners through [`Listeners`]). The last good
//! state stays whatever comes in.

mod discovered;
mod findings;
mod merge;
mod publish;
mod resolve;
mod served;
mod state;

pub use discovered::{Discovered, EndpointLists, Said};
pub use findings::Findings;
pub use merge::{merge, share};
pub use publish::{Control, Listeners};
pub use resolve::{Question, Resolver};
pub use state::{ControlState, ReloadReport};

use std::sync::Arc;
use std::time::Instant;

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
    /// The endpoints of those of its upstreams that are `discovered`.
    pub endpoints: Arc<EndpointLists>,
    /// When the oldest of the changes that led to this became known, where the provider tells.
    pub since: Option<Instant>,
}
