//! A second reading of the same rules, written to be obviously right and nothing else: it takes
//! the whole stream, cuts it at line ends and looks at strings. Needs nothing but std, so that
//! the fuzz target can include it as a file.

use std::net::Ipv6Addr;

/// A complete request as the reference reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub http10: bool,
    /// Names as sent and trimmed values, one char per byte.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Where it ends in the stream.
    pub end: usize,
}

/// How the stream ends after its complete requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Something that is no request.
    Bad,
    /// After a request, or after the empty lines that may come before one.
    Clean,
    /// Within a request that may yet become good or bad.
    Incomplete,
}

/// Why no request could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Bad,
    Incomplete,
}
use Fault::{Bad, Incomplete};

/// Largest head, most field lines, largest target.
#[derive(Clone, Copy, Debug)]
pub struct Limits(pub usize, pub usize, pub usize);

/// Reads the whole stream.
pub fn read(bytes: &[u8], limits: Limits) -> (Vec<Request>, Ending) {
    // One char per byte, so that offsets stay.
    let text: Vec<char> = bytes.iter().map(|&byte| byte as char).collect();
    let mut requests: Vec<Request> = Vec::new();
    loop {
        let from = requests.last().map_or(0, |request| request.end);
        let rest: String = text[from..].iter().collect();
        let mut lines = 0;
        let mut start = rest.as_str();
        while let Some(after) = start.strip_prefix("\r\n") {
            (start, lines) = (after, lines + 1);
        }
        if lines > 2 || (lines == 2 && start.starts_with('\r')) {
            return (requests, Ending::Bad);
        }
        if start.is_empty() || start == "\r" {
            return (requests, Ending::Clean);
        }
        match request(start, limits) {
            Ok((request, used)) => {
                requests.push(Request { end: from + lines * 2 + used, ..request });
            }
            Err(Bad) => return (requests, Ending::Bad),
            Err(Incomplete) => return (requests, Ending::Incomplete),
        }
    }
}

fn count(text: &str) -> usize {
    text.chars().count()
}

fn request(text: &str, limits: Limits) -> Result<(Request, usize), Fault> {
    let (head, rest) = text.split_once("\r\n\r\n").ok_or(Incomplete)?;
    if count(head) + 4 > limits.0 {
        return Err(Bad);
    }
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().ok_or(Bad)?.split(' ').collect();
    let [method, target, version] = words[..] else { return Err(Bad) };
    let http10 = match version {
        "HTTP/1.0" => true,
        "HTTP/1.1" => false,
        _ => return Err(Bad),
    };
    let mut fields = Vec::new();
    for line in lines {
        fields.push(field(line)?);
    }
    if fields.len() > limits.1
        || !is_token(method)
        || count(method) > 32
        || method == "CONNECT"
        || count(target) > limits.2
    {
        return Err(Bad);
    }
    check_hosts(target, method, http10, &fields)?;
    let (body, body_size) = body(rest, method, http10, &fields)?;
    let used = count(head) + 4 + body_size;
    let request = Request {
        method: method.into(),
        target: target.into(),
        http10,
        fields,
        body: body.chars().map(|char| char as u8).collect(),
        end: 0,
    };
    Ok((request, used))
}

fn is_token(text: &str) -> bool {
    let other = "!#$%&'*+-.^_`|~";
    !text.is_empty()
        && text.chars().all(|char| char.is_ascii_alphanumeric() || other.contains(char))
}

fn is_space(char: char) -> bool {
    char == ' ' || char == '\t'
}

fn field(line: &str) -> Result<(String, String), Fault> {
    let (name, value) = line.split_once(':').ok_or(Bad)?;
    let control = |char: char| (char < ' ' && char != '\t') || char == '\x7f';
    if !is_token(name) || value.contains(control) {
        return Err(Bad);
    }
    Ok((name.into(), value.trim_matches(is_space).into()))
}

fn values<'f>(fields: &'f [(String, String)], name: &str) -> Vec<&'f str> {
    let named = |field: &&(String, String)| field.0.to_ascii_lowercase() == name;
    fields.iter().filter(named).map(|field| field.1.as_str()).collect()
}

fn check_hosts(
    target: &str,
    method: &str,
    http10: bool,
    fields: &[(String, String)],
) -> Result<(), Fault> {
    let host = match values(fields, "host")[..] {
        [] if http10 => None,
        [host] => Some(host_and_port(host).ok_or(Bad)?),
        _ => return Err(Bad),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let refused = |char: char| !char.is_ascii_graphic() || "#\\<>`".contains(char);
    if target.contains(refused) || query.contains('"') {
        return Err(Bad);
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(());
    }
    let (scheme, rest) = path.split_once("://").ok_or(Bad)?;
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return Err(Bad),
    };
    let authority = rest.split('/').next().unwrap_or("");
    let (name, port) = host_and_port(authority).ok_or(Bad)?;
    match host {
        Some((host, _)) if host != name => Err(Bad),
        Some((_, other)) if other.unwrap_or(default) != port.unwrap_or(default) => Err(Bad),
        _ => Ok(()),
    }
}

/// In lower case.
fn host_and_port(text: &str) -> Option<(String, Option<u32>)> {
    let text = text.to_ascii_lowercase();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => {
            let number: u32 = port.parse().ok()?;
            if number == 0 || number > 65535 || number.to_string() != port {
                return None;
            }
            (host.to_owned(), Some(number))
        }
        _ => (text, None),
    };
    if let Some(address) = host.strip_prefix('[') {
        address.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?;
        return Some((host, port));
    }
    let name = host.strip_suffix('.').unwrap_or(&host);
    let known = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
    let good = name.len() <= 253
        && name.split('.').all(|label| (1..=63).contains(&label.len()) && label.chars().all(known));
    good.then_some((host, port))
}

fn body(
    rest: &str,
    method: &str,
    http10: bool,
    fields: &[(String, String)],
) -> Result<(String, usize), Fault> {
    for (name, _) in fields {
        let dashed = name.to_ascii_lowercase().replace('_', "-");
        if name.contains('_') && (dashed == "content-length" || dashed == "transfer-encoding") {
            return Err(Bad);
        }
    }
    match values(fields, "expect")[..] {
        [] => {}
        [value] if value.eq_ignore_ascii_case("100-continue") => {}
        _ => return Err(Bad),
    }
    let lengths = values(fields, "content-length");
    let encodings = values(fields, "transfer-encoding");
    match (&lengths[..], &encodings[..]) {
        ([], []) => Ok((String::new(), 0)),
        ([length], []) => {
            if length.contains(|char: char| !char.is_ascii_digit()) || length.len() > 19 {
                return Err(Bad);
            }
            let size: u64 = length.parse().map_err(|_| Bad)?;
            if size > 0 && http10 && (method == "GET" || method == "HEAD") {
                return Err(Bad);
            }
            if (count(rest) as u64) < size {
                return Err(Incomplete);
            }
            Ok((rest.chars().take(size as usize).collect(), size as usize))
        }
        ([], [encoding]) if !http10 && encoding.eq_ignore_ascii_case("chunked") => chunks(rest),
        _ => Err(Bad),
    }
}

/// The joined data and the size of it all.
fn chunks(text: &str) -> Result<(String, usize), Fault> {
    let mut data = String::new();
    let mut rest = text;
    let mut extensions = 0;
    loop {
        let (line, after) = rest.split_once("\r\n").ok_or(Incomplete)?;
        let digits: String = line.chars().take_while(char::is_ascii_hexdigit).collect();
        let extension = &line[digits.len()..];
        extensions += count(extension);
        if digits.is_empty()
            || digits.len() > 16
            || count(extension) > 1024
            || extensions > 16_383
            || !are_extensions(extension)
        {
            return Err(Bad);
        }
        let size = u64::from_str_radix(&digits, 16).map_err(|_| Bad)?;
        if size == 0 {
            let used = count(text) - count(after) + trailers(after)?;
            return Ok((data, used));
        }
        if (count(after) as u64) < size {
            return Err(Incomplete);
        }
        let chunk: String = after.chars().take(size as usize).collect();
        rest = &after[chunk.len()..];
        data.push_str(&chunk);
        if !rest.starts_with("\r\n") {
            return Err(if "\r\n".starts_with(rest) { Incomplete } else { Bad });
        }
        rest = &rest[2..];
    }
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
fn are_extensions(text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let Some(after) = text.trim_start_matches(is_space).strip_prefix(';') else { return false };
    let after = after.trim_start_matches(is_space);
    let token = |text: &str| text.chars().take_while(|char| is_token(&char.to_string())).count();
    let name = token(after);
    if name == 0 {
        return false;
    }
    let rest = &after[name..];
    let Some(value) = rest.trim_start_matches(is_space).strip_prefix('=') else {
        return are_extensions(rest);
    };
    let value = value.trim_start_matches(is_space);
    if let Some(quoted) = value.strip_prefix('"') {
        let mut chars = quoted.chars();
        while let Some(char) = chars.next() {
            let char = match char {
                '"' => return are_extensions(chars.as_str()),
                '\\' => chars.next().unwrap_or('\0'),
                other => other,
            };
            if (char < ' ' && char != '\t') || char == '\x7f' {
                return false;
            }
        }
        return false;
    }
    let size = token(value);
    size > 0 && are_extensions(&value[size..])
}

/// The size of the trailer section.
fn trailers(text: &str) -> Result<usize, Fault> {
    if text.starts_with("\r\n") {
        return Ok(2);
    }
    let (section, _) = text.split_once("\r\n\r\n").ok_or(Incomplete)?;
    let lines: Vec<&str> = section.split("\r\n").collect();
    if count(section) + 4 > 8192 || lines.len() > 32 {
        return Err(Bad);
    }
    let refused = "authorization connection content-encoding content-length content-range \
                   content-type cookie expect host keep-alive max-forwards proxy-authorization \
                   proxy-connection te trailer transfer-encoding upgrade";
    for line in lines {
        let (name, _) = field(line)?;
        let name = name.to_ascii_lowercase().replace('_', "-");
        if refused.split_whitespace().any(|refused| refused == name) {
            return Err(Bad);
        }
    }
    Ok(count(section) + 4)
}
