//! The integration tests: the real binary between clients that control every byte and back ends
//! that follow a script.

mod affinity;
mod attack;
mod attack_stream;
mod cli;
mod commands;
mod dns;
mod drain;
mod environment;
mod faults;
mod filters;
mod forwarding;
mod gate;
mod grpc;
mod harness;
mod health;
mod hedge;
mod http1;
mod http2;
mod idle;
mod interop;
mod limits;
mod observability;
mod proxy_protocol;
mod reload;
mod retry;
mod routing;
mod stale;
mod streaming;
mod tidy;
mod tls;
mod upgrade;
mod upstream_tls;
mod views;
