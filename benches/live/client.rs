//! The client that asks until a change is served, and the endpoint that becomes ready.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What of an answer is looked at.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub location: Option<String>,
}

/// A client with one connection that it keeps.
pub struct Client {
    proxy: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(proxy: SocketAddr) -> Self {
        Self { proxy, connection: None }
    }

    /// `GET /` at `host`.
    pub fn get(&mut self, host: &str) -> io::Result<Reply> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(connect(self.proxy)?),
        };
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        connection.get_mut().write_all(head.as_bytes())?;
        let (reply, stays) = read(&mut connection)?;
        self.connection = Some(connection).filter(|_| stays);
        Ok(reply)
    }

    /// The body of `GET target`, on a connection of its own.
    pub fn page(of: SocketAddr, target: &str) -> io::Result<(u16, String)> {
        let mut connection = connect(of)?;
        write!(connection, "GET {target} HTTP/1.1\r\nHost: {of}\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        connection.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((status(head)?, body.to_owned()))
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

fn status(line: &str) -> io::Result<u16> {
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::other(format!("no status line: {line:?}")))
}

/// A response, read to its end, and whether the connection can be used again.
fn read(connection: &mut BufReader<TcpStream>) -> io::Result<(Reply, bool)> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = status(&line)?;
    let (mut location, mut length, mut stays) = (None, 0, true);
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "location" => location = Some(value.to_owned()),
            "content-length" => length = value.parse().map_err(io::Error::other)?,
            "connection" => stays = !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    io::copy(&mut connection.take(length), &mut io::sink())?;
    Ok((Reply { status, location }, stays))
}

/// A back end that answers 200; its threads end with the process.
pub struct Back {
    pub address: SocketAddr,
}

impl Back {
    pub fn start(ip: IpAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream));
            }
        });
        Ok(Self { address })
    }
}

fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = BufReader::new(stream);
    let mut line = String::new();
    while connection.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            connection.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        line.clear();
    }
    Ok(())
}
