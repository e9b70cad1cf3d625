//! A strict HTTP/1.1 client codec for endpoints (RFC 9112).
//!
//! Our own rather than hyper's because the proxy must know what hyper's client hides: how many
//! bytes of a request reached the socket (may it be sent again?), interim responses one by one,
//! and framing facts a lenient parser repairs in silence. It also needs no task and no channel
//! per connection: the exchange is driven by the task that serves the client.
//!
//! It knows nothing of routes or clients; request bodies are any `http_body::Body`.

mod body;
mod conn;
mod encode;
mod exchange;
mod head;

pub use conn::{H1Conn, Tunnelled};
pub use encode::{Framing, RequestHead};
pub use exchange::{H1Exchange, HeadEvent, MAX_INTERIM};
pub use head::ResponseHead;

#[cfg(test)]
mod tests;
