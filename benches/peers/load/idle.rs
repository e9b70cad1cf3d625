//! Connections that did one request each and then stay open, for the memory they take.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

use super::request;
use super::response::Reader;
use crate::certificate::TlsClient;

/// Open connections; dropping them closes them.
#[derive(Debug, Default)]
pub struct IdleConnections {
    connections: Vec<Connection>,
}

#[derive(Debug)]
enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl IdleConnections {
    /// Opens `count` more connections, one after another, each with one request answered.
    pub fn open(
        &mut self,
        proxy: SocketAddr,
        tls: Option<&TlsClient>,
        count: usize,
    ) -> io::Result<()> {
        let request = request(64, false);
        for _ in 0..count {
            let socket = TcpStream::connect_timeout(&proxy, Duration::from_secs(2))?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut connection = match tls {
                Some(tls) => Connection::Tls(Box::new(StreamOwned::new(tls.connection()?, socket))),
                None => Connection::Plain(socket),
            };
            match &mut connection {
                Connection::Plain(stream) => exchange(stream, &request)?,
                Connection::Tls(stream) => exchange(stream.as_mut(), &request)?,
            }
            self.connections.push(connection);
        }
        Ok(())
    }

    /// Fails if the proxy has closed any of them.
    pub fn check(&self) -> io::Result<()> {
        let mut closed = 0;
        for connection in &self.connections {
            let socket = match connection {
                Connection::Plain(socket) => socket,
                Connection::Tls(stream) => &stream.sock,
            };
            socket.set_nonblocking(true)?;
            // Session tickets may wait to be read; only an end or an error is a closed connection.
            match socket.peek(&mut [0]) {
                Ok(0) => closed += 1,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => closed += 1,
                _ => {}
            }
        }
        match closed {
            0 => Ok(()),
            closed => Err(io::Error::other(format!("the proxy closed {closed} idle connections"))),
        }
    }
}

fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> io::Result<()> {
    stream.write_all(request)?;
    let mut reader = Reader::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::Error::other("the proxy closed the connection"));
        }
        if let Some(response) = reader.feed(&chunk[..count]).map_err(io::Error::other)? {
            if response.close || response.length != 64 {
                return Err(io::Error::other("not a response on a kept-alive connection"));
            }
            return Ok(());
        }
    }
}
