//! Sockets that this process was given at its start, as `sd_listen_fds(3)` has it: by the service
//! manager, or by the process that it succeeds.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;

/// The name in `LISTEN_FDNAMES` of a socket on which the predecessor listens.
pub const LISTENING: &str = "portcullis-listening";
/// The name of the socket on which a successor says that it is ready.
pub const REPORT: &str = "portcullis-report";
/// What a successor says there.
pub const READY: &[u8] = b"ready";

/// Sockets that nobody has asked for yet.
#[derive(Default)]
pub struct Inherited {
    sockets: Vec<Given>,
}

struct Given {
    socket: TcpListener,
    /// Whether another process listens on it until this one is ready.
    from_predecessor: bool,
}

/// The process that this one succeeds.
pub struct Predecessor(UnixDatagram);

impl Inherited {
    /// What the environment speaks of, and the process that this one succeeds, if any. To be
    /// called once: the second time finds nothing.
    pub fn from_env() -> (Self, Option<Predecessor>) {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut fds = listenfd::ListenFd::from_env();
        let (mut sockets, mut predecessor) = (Vec::new(), None);
        for index in 0..fds.len() {
            let name = names.next().unwrap_or_default();
            let taken = if name == REPORT {
                fds.take_unix_datagram(index).map(|socket| {
                    predecessor = socket.map(Predecessor);
                })
            } else {
                fds.take_tcp_listener(index).map(|socket| {
                    let from_predecessor = name == LISTENING;
                    sockets.extend(socket.map(|socket| Given { socket, from_predecessor }));
                })
            };
            if let Err(error) = taken {
                tracing::warn!(%error, index, "an inherited socket is of no use");
            }
        }
        (Self { sockets }, predecessor)
    }

    /// The sockets that listen at `address`; the predecessor may have had one for each worker.
    pub fn take(&mut self, address: SocketAddr) -> Vec<TcpListener> {
        let same = |given: &mut Given| given.socket.local_addr().is_ok_and(|at| at == address);
        self.sockets.extract_if(.., same).map(|given| given.socket).collect()
    }

    /// Closes what only the predecessor had a use for: clients would wait there for nobody.
    pub fn close_unwanted(&mut self) {
        self.sockets.retain(|given| !given.from_predecessor);
    }

    /// Those of the service manager, for a successor who may want them.
    pub fn iter(&self) -> impl Iterator<Item = &TcpListener> {
        self.sockets.iter().map(|given| &given.socket)
    }
}

impl Predecessor {
    /// Has it finish what it began and go.
    pub fn dismiss(self) {
        if let Err(error) = self.0.send(READY) {
            tracing::warn!(%error, "the process before this one has gone already");
        }
    }
}
