//! The admin listener: health, readiness, metrics, the state of everything as JSON, and a page
//! that shows it. It only reads.
//!
//! It runs on a thread of its own with a small pool beside it for what takes long, so that a
//! scrape of a large table delays neither a request nor a readiness probe. `view` has the shapes
//! of the JSON, `explain` the account of one request; both work on any snapshot, so that the
//! commands use them on files too. Nothing here knows providers.

mod answer;
pub mod explain;
mod guard;
mod server;
pub mod view;

pub use server::{AdminListener, start};
