//! The HTTP/1.1 generator: a fixed number of connections in one epoll loop, each with one request
//! in flight, plain or over TLS, kept alive or one connection per request.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use rustls::{ClientConnection, HandshakeKind};

use super::response::Reader;
use super::{Counted, Meter, request};
use crate::certificate::TlsClient;

/// What to load a proxy with.
#[derive(Debug)]
pub struct H1Load {
    pub proxy: SocketAddr,
    pub tls: Option<TlsClient>,
    /// Connections at once.
    pub connections: usize,
    /// The length of the body asked for and expected, bytes.
    pub body: usize,
    /// A new connection, and with TLS a full handshake, for every request.
    pub connection_per_request: bool,
}

impl H1Load {
    /// Runs until `meter` says that the turn is over.
    pub fn run(&self, mut meter: Meter) -> io::Result<Counted> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(self.connections.max(16));
        let mut scratch = vec![0; 256 * 1024];
        let request = request(self.body, self.connection_per_request);
        let mut connections = Vec::with_capacity(self.connections);
        for id in 0..self.connections {
            connections.push(self.open(poll.registry(), id)?);
        }
        while meter.tick()? {
            match poll.poll(&mut events, Some(Duration::from_millis(20))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                let id = event.token().0;
                let Some(connection) = connections.get_mut(id) else { continue };
                let turn = connection.turn(self, &request, &mut scratch, &mut meter);
                let again = match turn {
                    Ok(After::Keep) => false,
                    Ok(After::Reopen) => true,
                    Err(error) => {
                        meter.error(error.to_string());
                        true
                    }
                };
                if again {
                    *connection = self.open(poll.registry(), id)?;
                }
            }
        }
        Ok(meter.finish())
    }

    fn open(&self, registry: &Registry, id: usize) -> io::Result<Connection> {
        let begun = Instant::now();
        let mut socket = TcpStream::connect(self.proxy)?;
        registry.register(&mut socket, Token(id), Interest::READABLE | Interest::WRITABLE)?;
        let tls = self.tls.as_ref().map(TlsClient::connection).transpose()?;
        Ok(Connection {
            socket,
            tls,
            reader: Reader::new(),
            sent: begun,
            unsent: 0,
            drained: false,
            state: State::Opening,
        })
    }
}

enum After {
    Keep,
    Reopen,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Opening,
    Waiting,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    reader: Reader,
    /// When the request in flight, or with a connection per request the connect, began.
    sent: Instant,
    /// How much of a plain request is still to be written, bytes.
    unsent: usize,
    /// Whether the last read left nothing in the socket: epoll tells when there is more, and
    /// asking again would be a system call for nothing.
    drained: bool,
    state: State,
}

impl Connection {
    fn turn(
        &mut self,
        load: &H1Load,
        request: &[u8],
        scratch: &mut [u8],
        meter: &mut Meter,
    ) -> io::Result<After> {
        if self.state == State::Opening {
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            match self.socket.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    return Ok(After::Keep);
                }
                result => result?,
            };
            self.socket.set_nodelay(true)?;
            self.state = State::Waiting;
            let begun = self.sent;
            self.send(request)?;
            if load.connection_per_request {
                self.sent = begun;
            }
        }
        self.flush(request)?;
        self.drained = false;
        loop {
            let Some(count) = self.receive(scratch)? else { return Ok(After::Keep) };
            if count == 0 {
                return Err(io::Error::other("the proxy closed a connection in use"));
            }
            let Some(response) = self.reader.feed(&scratch[..count]).map_err(io::Error::other)?
            else {
                continue;
            };
            if response.length != load.body {
                return Err(io::Error::other(format!("a body of {} bytes", response.length)));
            }
            meter.answered(self.sent);
            if meter.is_full() {
                return Ok(After::Keep);
            }
            if load.connection_per_request {
                self.close()?;
                return Ok(After::Reopen);
            }
            if response.close {
                return Ok(After::Reopen);
            }
            self.send(request)?;
        }
    }

    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.sent = Instant::now();
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(request)?,
            None => self.unsent = request.len(),
        }
        self.flush(request)
    }

    fn flush(&mut self, request: &[u8]) -> io::Result<()> {
        loop {
            let written = match &mut self.tls {
                Some(tls) if tls.wants_write() => tls.write_tls(&mut self.socket),
                None if self.unsent > 0 => {
                    self.socket.write(&request[request.len() - self.unsent..])
                }
                _ => return Ok(()),
            };
            match written {
                Ok(count) => self.unsent = self.unsent.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next piece of the response; `None` when there is no more for now, 0 at the end.
    fn receive(&mut self, scratch: &mut [u8]) -> io::Result<Option<usize>> {
        let mut source = Source { socket: &mut self.socket, drained: &mut self.drained };
        let Some(tls) = &mut self.tls else { return available(source.read(scratch)) };
        loop {
            if let Some(count) = available(tls.reader().read(scratch))? {
                return Ok(Some(count));
            }
            match available(tls.read_tls(&mut source))? {
                Some(0) => return Ok(Some(0)),
                Some(_) => tls.process_new_packets().map_err(io::Error::other)?,
                None => return Ok(None),
            };
            while tls.wants_write() && available(tls.write_tls(source.socket))?.is_some() {}
        }
    }

    /// Says goodbye; with TLS after making sure that the handshake was a full one of TLS 1.3.
    fn close(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        if tls.handshake_kind() != Some(HandshakeKind::Full)
            || tls.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3)
        {
            return Err(io::Error::other("not a full TLS 1.3 handshake"));
        }
        tls.send_close_notify();
        self.flush(&[])
    }
}

/// A socket that remembers when it was read empty.
struct Source<'a> {
    socket: &'a mut TcpStream,
    drained: &'a mut bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if *self.drained {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.socket.read(buffer)?;
        *self.drained = count < buffer.len() && count > 0;
        Ok(count)
    }
}

fn available(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
