//! Listening sockets: one per worker, sharing the port.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel queues while a worker is busy.
pub const BACKLOG: i32 = 4096;

/// Binds `address` `count` times with SO_REUSEPORT. With port 0 all share the port the kernel
/// chose first.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut sockets: Vec<TcpListener> = Vec::with_capacity(count);
    for _ in 0..count.max(1) {
        let address = match sockets.first() {
            Some(first) => first.local_addr()?,
            None => address,
        };
        sockets.push(one(address)?);
    }
    Ok(sockets)
}

/// Whether somebody listens at `address` already, who may let us share it: with SO_REUSEPORT the
/// kernel gives each of two processes a part of the connections, and neither hears of the other.
pub fn is_shared(address: SocketAddr) -> bool {
    let bound = socket(address, false).and_then(|socket| socket.bind(&address.into()));
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // "[::]" means both families, as people expect of it.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// `sockets` that were handed to this process, for `count` workers: each worker gets one at least,
/// and each socket a worker at least.
pub fn share(sockets: Vec<TcpListener>, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut shared = Vec::with_capacity(count.max(sockets.len()));
    for socket in sockets.iter().cycle().take(count.saturating_sub(sockets.len())) {
        shared.push(socket.try_clone()?);
    }
    shared.extend(sockets);
    for socket in &shared {
        socket.set_nonblocking(true)?;
    }
    Ok(shared)
}
