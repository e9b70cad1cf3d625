//! Why the gate rejects, and with which status.

/// A rejected request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Which rule it broke.
    pub reason: GateReason,
    /// Its head had passed in an earlier call, so the parser above works on it: the body must
    /// break off there (an IO error, never an orderly end), and the answer, if none is on its
    /// way yet, is the service's.
    pub mid_body: bool,
}

impl Reject {
    /// The status to answer with; the connection closes after it.
    pub const fn status(self) -> u16 {
        self.reason.status()
    }
}

/// The rule a request broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum GateReason {
    /// A chunk size, or the line end after chunk data, is malformed (RFC 9112 §7.1).
    BadChunk,
    /// A chunk extension is malformed (RFC 9112 §7.1.1) or longer than allowed.
    BadChunkExtension,
    /// `Transfer-Encoding` is repeated, malformed, sent in HTTP/1.0, or does not end in
    /// `chunked` (RFC 9112 §6.1, §6.3).
    BadEncoding,
    /// `Expect` is anything but one `100-continue` (RFC 9110 §10.1.1).
    BadExpectation,
    /// A field name holds a byte that is no token, is empty, or no colon follows it.
    BadHeaderName,
    /// A field value holds a control character.
    BadHeaderValue,
    /// Host, or the authority of the target, is no `host[:port]`.
    BadHost,
    /// `Content-Length` is no plain decimal number.
    BadLength,
    /// The method is no token.
    BadMethod,
    /// The request target is malformed or of a form its method does not take (RFC 9112 §3.2).
    BadTarget,
    /// A trailer field that may only stand in a head (RFC 9110 §6.5.1).
    BadTrailer,
    /// The request line ends without a protocol version.
    BadVersion,
    /// CR without LF.
    BareCr,
    /// LF without CR.
    BareLf,
    /// CONNECT: the proxy is no tunnel.
    Connect,
    /// More than two empty lines before a request line.
    EmptyLines,
    /// `Content_Length` or `Transfer_Encoding`: a back end that folds `_` to `-` would see a
    /// second framing.
    FramingAlias,
    /// The head exceeds its limit.
    HeadTooLarge,
    /// The authority of an absolute target differs from Host.
    HostMismatch,
    /// `Content-Length` together with `Transfer-Encoding` (RFC 9112 §6.1).
    LengthWithEncoding,
    /// The method is longer than any there is.
    MethodTooLong,
    /// HTTP/1.1 without Host (RFC 9112 §3.2).
    NoHost,
    /// A line begins with white space: an obsolete line folding (RFC 9112 §5.2).
    ObsFold,
    /// More than one Host.
    RepeatedHost,
    /// More than one `Content-Length`, even of one value.
    RepeatedLength,
    /// White space in or after a field name (RFC 9112 §5.1).
    SpaceBeforeColon,
    /// The request target exceeds its limit.
    TargetTooLong,
    /// More field lines than the limit.
    TooManyHeaders,
    /// The trailer section exceeds its limit.
    TrailersTooLarge,
    /// A body in an HTTP/1.0 GET or HEAD, which its back end may take for the next request.
    UnexpectedBody,
    /// A transfer coding before `chunked` (RFC 9112 §7).
    UnknownEncoding,
    /// A protocol version other than HTTP/1.0 and HTTP/1.1.
    UnsupportedVersion,
}

impl GateReason {
    /// Every reason, in order of its discriminant.
    pub const ALL: [Self; 32] = [
        Self::BadChunk,
        Self::BadChunkExtension,
        Self::BadEncoding,
        Self::BadExpectation,
        Self::BadHeaderName,
        Self::BadHeaderValue,
        Self::BadHost,
        Self::BadLength,
        Self::BadMethod,
        Self::BadTarget,
        Self::BadTrailer,
        Self::BadVersion,
        Self::BareCr,
        Self::BareLf,
        Self::Connect,
        Self::EmptyLines,
        Self::FramingAlias,
        Self::HeadTooLarge,
        Self::HostMismatch,
        Self::LengthWithEncoding,
        Self::MethodTooLong,
        Self::NoHost,
        Self::ObsFold,
        Self::RepeatedHost,
        Self::RepeatedLength,
        Self::SpaceBeforeColon,
        Self::TargetTooLong,
        Self::TooManyHeaders,
        Self::TrailersTooLarge,
        Self::UnexpectedBody,
        Self::UnknownEncoding,
        Self::UnsupportedVersion,
    ];

    /// The reason as a metric label and log word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadChunk => "bad_chunk",
            Self::BadChunkExtension => "bad_chunk_extension",
            Self::BadEncoding => "bad_encoding",
            Self::BadExpectation => "bad_expectation",
            Self::BadHeaderName => "bad_header_name",
            Self::BadHeaderValue => "bad_header_value",
            Self::BadHost => "bad_host",
            Self::BadLength => "bad_length",
            Self::BadMethod => "bad_method",
            Self::BadTarget => "bad_target",
            Self::BadTrailer => "bad_trailer",
            Self::BadVersion => "bad_version",
            Self::BareCr => "bare_cr",
            Self::BareLf => "bare_lf",
            Self::Connect => "connect",
            Self::EmptyLines => "empty_lines",
            Self::FramingAlias => "framing_alias",
            Self::HeadTooLarge => "head_too_large",
            Self::HostMismatch => "host_mismatch",
            Self::LengthWithEncoding => "length_with_encoding",
            Self::MethodTooLong => "method_too_long",
            Self::NoHost => "no_host",
            Self::ObsFold => "obs_fold",
            Self::RepeatedHost => "repeated_host",
            Self::RepeatedLength => "repeated_length",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::TargetTooLong => "target_too_long",
            Self::TooManyHeaders => "too_many_headers",
            Self::TrailersTooLarge => "trailers_too_large",
            Self::UnexpectedBody => "unexpected_body",
            Self::UnknownEncoding => "unknown_encoding",
            Self::UnsupportedVersion => "unsupported_version",
        }
    }

    /// The status of the answer: 400 where no other says more.
    pub const fn status(self) -> u16 {
        match self {
            Self::Connect => 405,
            Self::TargetTooLong => 414,
            Self::BadExpectation => 417,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::MethodTooLong | Self::UnknownEncoding => 501,
            Self::UnsupportedVersion => 505,
            _ => 400,
        }
    }
}
