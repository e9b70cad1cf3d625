//! The layers of the stack: each wraps the service behind it, and each is a branch when the route
//! has no such policy.
//!
//! Layers are functions over tower services. Their futures are combinators rather than `async`
//! blocks around `async` blocks: a block that awaits a captured future holds it twice, and eight
//! layers of that would be a future of many kilobytes per connection.

mod access_log;
mod answer;
mod auth;
mod client_auth;
mod cors;
mod error_pages;
mod filters;
mod guard;
mod hedge;
mod https;
mod limits;
mod lookup;
mod normalize;
mod policies;
mod retry;
mod rules;
mod timeout;

pub use access_log::access_log;
pub use answer::answer;
pub use filters::filters;
pub use limits::limits;
pub use lookup::{MOST_LOOKUPS, lookup};
pub use normalize::normalize;
pub use policies::policies;
pub use retry::retry;
pub use timeout::timeout;

use http::Response;

use super::Body;
use crate::error::ProxyError;

use auth::auth;
use client_auth::client_auth;
use cors::cors;
use error_pages::error_pages;
use guard::guard;
use https::https;

/// What a layer's future resolves to.
type Outcome = Result<Response<Body>, ProxyError>;
