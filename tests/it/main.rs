//! The integration tests: the real binary between clients that control every byte and back ends
//! that follow a script.

mod harness;
mod smoke;
mod tidy;
