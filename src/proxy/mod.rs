//! The request path: from a request head to the last byte of its response.
//!
//! `stack` shows the whole of it on one screen. Everything here runs on one worker and belongs
//! to one request; what outlives requests is in `snapshot` and `upstream`. It knows nothing of
//! sockets, TLS or providers: the `server` hands it parsed requests.

mod admission;
mod answers;
mod backlog;
mod body;
mod carry;
mod choose;
mod connection;
mod context;
mod exchange;
mod farewell;
mod forward;
mod forwarding;
mod hop;
mod kept_body;
mod layers;
mod pace;
mod passthrough;
mod pieces;
mod read_ahead;
mod repeat;
mod request;
mod request_body;
mod rescue;
mod selection;
mod share;
mod stack;
mod stand_in;
mod tunnel;
mod verified;
mod verifier;
mod watch;
mod websocket;
mod worker;

pub use body::Body;
pub use context::{ClientConn, ClientLink, Context, HttpVersion, RequestId};
pub use forwarding::{client_scheme, connection_lines, ip_value};
pub use layers::MOST_LOOKUPS;
pub use passthrough::Passing;
pub use request::{Host, Inbound, Request, Tried, Upgrade};
pub use request_body::{H2Body, IncomingBody, RequestBody};
pub use rescue::ALLOWED_METHODS;
pub use selection::{Selection, Sight};
pub use stack::{Stack, stack};
pub use tunnel::Tunnel;
pub use verifier::Verifier;
pub use worker::{Worker, WorkerSnapshot};
