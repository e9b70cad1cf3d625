//! What both sides of the proxy need of HTTP/2 (RFC 9113): taking in message bodies so that one
//! that nobody reads costs no more memory than its window, and nothing of the others.
//!
//! The library keeps every DATA frame that was not read as an entry of its own: a stalled body in
//! frames of a few bytes takes many times its window. It counts that for the connection as a
//! whole, and ends the connection where it is too much, with every other stream on it. So the
//! task of a connection, which is never held up, reads such bodies ahead: see [`Intake`].

mod intake;
mod pace;
mod received;

pub use intake::{DATA_FRAME_BUDGET, Intake};
pub use pace::Paced;
pub use received::Received;
