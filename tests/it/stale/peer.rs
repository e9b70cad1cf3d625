//! What the kernel says of the other end of a connection within this machine: the exact lookup of
//! the socket diagnostics (`sock_diag(7)`), as `ss` makes it.

use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const ENOENT: i32 = 2;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;
const TCP_ESTABLISHED: u8 = 1;

/// The socket at the other end of an IPv4 connection.
pub struct Peer {
    netlink: OwnedFd,
    question: Vec<u8>,
}

impl Peer {
    /// The other end of `stream`; none where that has already gone.
    pub fn of(stream: &TcpStream) -> Option<Self> {
        let (SocketAddr::V4(theirs), SocketAddr::V4(ours)) =
            (stream.peer_addr().ok()?, stream.local_addr().ok()?)
        else {
            return None;
        };
        let (flags, kind) = (SocketFlags::CLOEXEC, SocketType::DGRAM);
        let netlink =
            socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::SOCK_DIAG)).ok()?;
        Some(Self { netlink, question: question(theirs, ours) })
    }

    /// Whether no end of the connection has come to it.
    pub fn believes_it_open(&self) -> bool {
        send(&self.netlink, &self.question, SendFlags::empty()).expect("the kernel takes it");
        let mut answer = [0; 512];
        let (_, length) =
            recv(&self.netlink, &mut answer, RecvFlags::empty()).expect("the kernel answers");
        // A header of 16 bytes; then the number of an error, or family and state of the socket.
        let (head, rest) = answer[..length].split_at(16);
        if u16::from_ne_bytes([head[4], head[5]]) != NLMSG_ERROR {
            return rest[1] == TCP_ESTABLISHED;
        }
        let error = i32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]);
        assert_eq!(error, -ENOENT, "this kernel has the diagnostics of TCP (tcp_diag)");
        false
    }
}

/// A `nlmsghdr` and an `inet_diag_req_v2` that ask for the one socket of `local` and `remote`.
fn question(local: SocketAddrV4, remote: SocketAddrV4) -> Vec<u8> {
    const LENGTH: u32 = 72;
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([AF_INET, IPPROTO_TCP, 0, 0]);
    // Any state.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.port().to_be_bytes());
    for address in [local, remote] {
        bytes.extend(address.ip().octets());
        bytes.extend([0; 12]);
    }
    // Any interface, and no cookie.
    bytes.extend([0; 4]);
    bytes.extend([u8::MAX; 8]);
    bytes
}
