//! The integration tests: the real binary between clients that control every byte and back ends
//! that follow a script.

mod filters;
mod forwarding;
mod gate;
mod harness;
mod http1;
mod routing;
mod tidy;
mod upgrade;
