//! The back end: one thread, one epoll loop, responses made beforehand.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);

/// Starts the back end on a free loopback port. It lives as long as the process.
///
/// The last segment of the path says what it answers: a number is a body of that many bytes,
/// `head` is the request head it received.
pub fn start() -> io::Result<SocketAddr> {
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let backend = Backend { listener, poll, connections: HashMap::new(), next: 1 };
    thread::Builder::new().name("backend".into()).spawn(move || {
        if let Err(error) = backend.serve() {
            eprintln!("peers: the back end stopped: {error}");
        }
    })?;
    Ok(address)
}

struct Backend {
    listener: TcpListener,
    poll: Poll,
    connections: HashMap<usize, Connection>,
    next: usize,
}

struct Connection {
    socket: TcpStream,
    head: Vec<u8>,
    response: Arc<[u8]>,
    written: usize,
}

impl Backend {
    fn serve(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut responses = Responses::default();
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                    continue;
                }
                let id = event.token().0;
                let Some(connection) = self.connections.get_mut(&id) else { continue };
                if !connection.turn(&mut responses).unwrap_or(false) {
                    self.connections.remove(&id);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut socket, _)) => {
                    socket.set_nodelay(true)?;
                    let id = self.next;
                    self.next += 1;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    self.poll.registry().register(&mut socket, Token(id), interest)?;
                    let connection = Connection {
                        socket,
                        head: Vec::new(),
                        response: Arc::default(),
                        written: 0,
                    };
                    self.connections.insert(id, connection);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Connection {
    /// Reads and writes as far as it goes; false says the connection is over.
    fn turn(&mut self, responses: &mut Responses) -> io::Result<bool> {
        if !self.flush()? {
            return Ok(true);
        }
        let mut chunk = [0; 16 * 1024];
        loop {
            let count = match self.socket.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            self.head.extend_from_slice(&chunk[..count]);
            // Requests have no bodies and proxies do not pipeline, so a head ends what was read.
            if self.head.ends_with(b"\r\n\r\n") {
                self.response = responses.answer(&self.head);
                self.head.clear();
                self.written = 0;
                if !self.flush()? {
                    return Ok(true);
                }
            }
            // Less than asked for: the socket is drained, and epoll will tell of more.
            if count < chunk.len() {
                return Ok(true);
            }
        }
    }

    /// Writes what is left of the response; false says that the socket is full.
    fn flush(&mut self) -> io::Result<bool> {
        while self.written < self.response.len() {
            match self.socket.write(&self.response[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Complete responses by body size.
#[derive(Default)]
struct Responses(HashMap<usize, Arc<[u8]>>);

impl Responses {
    fn answer(&mut self, head: &[u8]) -> Arc<[u8]> {
        let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let last = target.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        match std::str::from_utf8(last).ok().and_then(|text| text.parse().ok()) {
            Some(size) => {
                Arc::clone(self.0.entry(size).or_insert_with(|| message(&vec![b'x'; size])))
            }
            None => message(head),
        }
    }
}

fn message(body: &[u8]) -> Arc<[u8]> {
    let mut message = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    message.extend_from_slice(body);
    message.into()
}
