//! The PROXY protocol, versions 1 and 2, as HAProxy's `doc/proxy-protocol.txt` defines it: the
//! addresses of the client as a trusted load balancer saw them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest version 1 line.
const MAX_LINE: usize = 107;
/// The longest version 2 payload taken; addresses need at most 36, the rest are extensions.
const MAX_PAYLOAD: usize = 2048;
/// The shortest header of either version: `PROXY UNKNOWN\r\n`.
const SHORTEST: usize = 15;

/// The two ends of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// Why a header was refused.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The connection broke.
    #[error("connection broken before the PROXY header ended")]
    Io(#[from] std::io::Error),
    /// Neither version, or malformed.
    #[error("no valid PROXY header")]
    Malformed,
}

/// Reads one header and not a byte more. `None`: the balancer speaks for itself (health checks).
pub async fn read<R: AsyncRead + Unpin>(
    from: &mut R,
) -> Result<Option<Addresses>, ProxyHeaderError> {
    let mut start = [0u8; SHORTEST];
    from.read_exact(&mut start).await?;
    if start.starts_with(SIGNATURE) {
        let low = from.read_u8().await?;
        let [.., version, family, high] = start;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_PAYLOAD {
            return Err(ProxyHeaderError::Malformed);
        }
        let mut payload = vec![0u8; length];
        from.read_exact(&mut payload).await?;
        return parse_v2(version, family, &payload).ok_or(ProxyHeaderError::Malformed);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(ProxyHeaderError::Malformed);
    }
    let mut line = start.to_vec();
    // Byte by byte: where the line ends, something else begins that is not ours to read.
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE {
            return Err(ProxyHeaderError::Malformed);
        }
        line.push(from.read_u8().await?);
    }
    parse_v1(&line).ok_or(ProxyHeaderError::Malformed)
}

/// Parses a version 1 line with its line end. The outer `None` is malformed.
pub fn parse_v1(line: &[u8]) -> Option<Option<Addresses>> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut fields = rest.split(' ');
    let family = fields.next()?;
    let source = fields.next()?.parse::<IpAddr>().ok()?;
    let destination = fields.next()?.parse::<IpAddr>().ok()?;
    let source_port = port(fields.next()?)?;
    let destination_port = port(fields.next()?)?;
    let sound = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    (sound && fields.next().is_none()).then_some(Some(Addresses {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    }))
}

fn port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (digits == "0" || !digits.starts_with('0'))).then(|| digits.parse().ok())?
}

/// Parses the fields of a version 2 header after the signature. The outer `None` is malformed.
pub fn parse_v2(version: u8, family: u8, payload: &[u8]) -> Option<Option<Addresses>> {
    match version {
        0x20 => return Some(None), // LOCAL
        0x21 => {}
        _ => return None,
    }
    let (addresses, extensions) = match family {
        0x11 => {
            let (bytes, rest) = payload.split_first_chunk::<12>()?;
            let [a, b, c, d, e, f, g, h, sp1, sp2, dp1, dp2] = *bytes;
            let source = Ipv4Addr::new(a, b, c, d).into();
            let destination = Ipv4Addr::new(e, f, g, h).into();
            (addresses(source, destination, [sp1, sp2], [dp1, dp2]), rest)
        }
        0x21 => {
            let (source, rest) = payload.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            let (ports, rest) = rest.split_first_chunk::<4>()?;
            let [sp1, sp2, dp1, dp2] = *ports;
            let source = Ipv6Addr::from(*source).into();
            let destination = Ipv6Addr::from(*destination).into();
            (addresses(source, destination, [sp1, sp2], [dp1, dp2]), rest)
        }
        // Families that carry no address we could use: the balancer's own.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => return Some(None),
        _ => return None,
    };
    extensions_fit(extensions).then_some(Some(addresses))
}

fn addresses(source: IpAddr, destination: IpAddr, from: [u8; 2], to: [u8; 2]) -> Addresses {
    Addresses {
        source: SocketAddr::new(source, u16::from_be_bytes(from)),
        destination: SocketAddr::new(destination, u16::from_be_bytes(to)),
    }
}

/// Whether the extensions (type, length, value) end where the header does.
fn extensions_fit(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(([_, high, low], values)) = rest.split_first_chunk::<3>() else { return false };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(next) = values.get(length..) else { return false };
        rest = next;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4() -> Addresses {
        Addresses {
            source: "1.2.3.4:5678".parse().expect("an address"),
            destination: "5.6.7.8:443".parse().expect("an address"),
        }
    }

    async fn read_bytes(bytes: &[u8]) -> Result<Option<Addresses>, ProxyHeaderError> {
        let mut from = bytes;
        let result = read(&mut from).await;
        if result.is_ok() {
            assert_eq!(from, b"GET", "nothing after the header is read");
        }
        result
    }

    #[tokio::test]
    async fn both_versions_tell_the_client() {
        let line = b"PROXY TCP4 1.2.3.4 5.6.7.8 5678 443\r\nGET";
        assert_eq!(read_bytes(line).await.expect("v1"), Some(v4()));
        let mut binary = SIGNATURE.to_vec();
        binary.extend([0x21, 0x11, 0, 12 + 4, 1, 2, 3, 4, 5, 6, 7, 8, 0x16, 0x2e, 0x01, 0xbb]);
        binary.extend([0x04, 0, 1, 0xff]); // one extension
        binary.extend(b"GET");
        assert_eq!(read_bytes(&binary).await.expect("v2"), Some(v4()));
        assert_eq!(read_bytes(b"PROXY UNKNOWN\r\nGET").await.expect("unknown"), None);
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let too_long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 120], b"\r\n"].concat();
        let overlong_extension =
            [SIGNATURE.as_slice(), &[0x21, 0x11, 0, 15], &[1; 12], &[4, 0, 9]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(),
            b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n....",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            &too_long,
            &overlong_extension,
        ] {
            assert!(read_bytes(bytes).await.is_err(), "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_written_line_is_read_back(source: SocketAddr, destination: SocketAddr) {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (s, d) = (source.ip(), destination.ip());
            let (sp, dp) = (source.port(), destination.port());
            let line = format!("PROXY {family} {s} {d} {sp} {dp}\r\n");
            let parsed = parse_v1(line.as_bytes());
            if source.is_ipv4() == destination.is_ipv4() {
                let parsed = parsed.flatten().expect("a sound line");
                prop_assert_eq!((parsed.source.ip(), parsed.source.port()), (s, sp));
                prop_assert_eq!((parsed.destination.ip(), parsed.destination.port()), (d, dp));
            } else {
                prop_assert_eq!(parsed, None);
            }
        }

        #[test]
        fn any_bytes_are_survived(version: u8, family: u8, payload: Vec<u8>) {
            let _ = parse_v2(version, family, &payload);
            let _ = parse_v1(&payload);
        }
    }
}
