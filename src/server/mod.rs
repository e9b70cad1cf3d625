//! The server side: what stands between a client's socket and the request path.

pub mod gate;
