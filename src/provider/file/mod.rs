//! The configuration language and its provider: YAML files to an `ir::Fragment`.
//!
//! The way is `load` (all I/O) -> `Inputs` -> `translate` (pure) -> `Translation`; `run` goes it
//! again whenever a file changes. Inside a translation: text -> nodes with places (`parse`) ->
//! variables and secrets put in (`interpolate`) -> raw structs (`decode`, `raw`) -> `ir`
//! (`translate`). Nothing here stops at the first mistake.

mod decode;
mod field;
mod inputs;
mod interpolate;
mod marks;
pub(super) mod node;
pub(super) mod parse;
mod raw;
mod report;
mod scalar;
mod schema;
mod translate;
mod watch;

pub use inputs::{Inputs, environment, load};
pub use report::{printable, render, summary};
pub use schema::schema;
pub use translate::{Translation, translate};
pub use watch::{Options, Update, run};

#[cfg(test)]
mod tests;
