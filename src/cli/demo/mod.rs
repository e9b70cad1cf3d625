//! The embedded shop: back ends that live in this process, so that `portcullis demo` shows the
//! real proxy at work with nothing to set up.
//!
//! It owns the back ends (plain HTTP/1.1 on their own thread and runtime, never on a worker), the
//! configuration that leads to them, and the list of things to try. It knows the proxy only
//! through [`crate::ir`]: to the proxy these are upstreams like any other.
//!
//! ```text
//! shop       binds, starts the thread, stops it          config   Shop -> ir::Fragment
//! plan       who sells what, at which speed              guide    what to try
//! counter    one endpoint: accept, read, answer          args     the command's options
//! ask, page  a request as read; HTML
//! storefront catalog cart orders reviews support         one department each
//! frame      WebSocket frames
//! ```

mod args;
mod ask;
mod cart;
mod catalog;
mod command;
mod config;
mod counter;
mod frame;
mod guide;
mod orders;
mod page;
mod plan;
mod reviews;
mod shop;
mod storefront;
mod support;
#[cfg(test)]
mod tests;

pub use args::{DemoArgs, run_backends};
pub use command::run;
pub use config::{ACCESS_LOG_TEMPLATE, DemoListeners, fragment};
pub use guide::{Try, backends_table, greeting, what_to_try};
pub use shop::{Service, Shop, ShopEndpoint, ShopError, ShopOptions};
