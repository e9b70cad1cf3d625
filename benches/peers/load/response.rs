//! Just enough of a response reader to know that a response is complete and right.

/// Reads one response after another from pieces of a byte stream.
#[derive(Debug, Default)]
pub struct Reader {
    head: Vec<u8>,
    /// Once the head is complete: the body's length, and how much is still to come.
    body: Option<(usize, usize)>,
    close: bool,
}

/// A complete response.
#[derive(Debug)]
pub struct Response {
    /// Its body's length, bytes.
    pub length: usize,
    /// Whether the server said that it closes the connection.
    pub close: bool,
}

impl Reader {
    /// A reader at the start of a response.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece; the error says what is wrong with the response.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Option<Response>, String> {
        let mut rest = piece;
        if self.body.is_none() {
            let used = if self.head.is_empty() {
                self.parse(piece)?
            } else {
                let before = self.head.len();
                let mut head = std::mem::take(&mut self.head);
                head.extend_from_slice(piece);
                let used = self.parse(&head)?;
                self.head = head;
                used.map(|used| used - before)
            };
            let Some(used) = used else {
                if self.head.is_empty() {
                    self.head.extend_from_slice(piece);
                }
                return Ok(None);
            };
            self.head.clear();
            rest = &piece[used..];
        }
        let Some((length, left)) = &mut self.body else { return Ok(None) };
        *left = left
            .checked_sub(rest.len())
            .ok_or_else(|| format!("more bytes than the {length} of the body"))?;
        if *left > 0 {
            return Ok(None);
        }
        let response = Response { length: *length, close: self.close };
        self.body = None;
        Ok(Some(response))
    }

    fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let used = match head.parse(bytes).map_err(|error| format!("bad response head: {error}"))? {
            httparse::Status::Complete(used) => used,
            httparse::Status::Partial => return Ok(None),
        };
        if head.code != Some(200) {
            return Err(format!("status {}", head.code.unwrap_or_default()));
        }
        self.close = false;
        let mut length = None;
        for field in head.headers.iter() {
            if field.name.eq_ignore_ascii_case("content-length") {
                length = std::str::from_utf8(field.value).ok().and_then(|text| text.parse().ok());
            } else if field.name.eq_ignore_ascii_case("connection") {
                self.close = field.value.eq_ignore_ascii_case(b"close");
            }
        }
        let length: usize = length.ok_or("no Content-Length in the response")?;
        self.body = Some((length, length));
        Ok(Some(used))
    }
}
