//! What a head says about the message: who it is for, how long its body is, what it asks for.

use super::GateReason;
use super::cursor::trim;
use super::field::FieldRules;
use super::head::{Body, Framing};
use super::host::HostPort;
use super::target::Authority;

/// The facts of one head, gathered field by field.
#[derive(Default)]
pub(super) struct Message {
    pub(super) http10: bool,
    /// Of a target in absolute form.
    pub(super) authority: Option<Authority>,
    method: Method,
    /// The field whose value comes next.
    field: Field,
    host: bool,
    length: Option<u64>,
    /// `Content-Length` or `Transfer-Encoding` stood here.
    has_length: bool,
    has_encoding: bool,
    has_expect: bool,
    has_upgrade: bool,
    /// `Connection` holds the option `upgrade`.
    upgrade_option: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Method {
    GetOrHead,
    Options,
    #[default]
    Other,
}

#[derive(Clone, Copy, Default)]
enum Field {
    Connection,
    ContentLength,
    Expect,
    Host,
    #[default]
    Other,
    TransferEncoding,
    Upgrade,
}

impl Message {
    pub(super) fn method(&mut self, method: &[u8]) -> Result<(), GateReason> {
        self.method = match method {
            b"" => return Err(GateReason::BadMethod),
            b"CONNECT" => return Err(GateReason::Connect),
            b"GET" | b"HEAD" => Method::GetOrHead,
            b"OPTIONS" => Method::Options,
            _ => Method::Other,
        };
        Ok(())
    }

    pub(super) fn is_options(&self) -> bool {
        self.method == Method::Options
    }

    /// The framing of the complete head.
    pub(super) fn framing(&self) -> Result<Framing, GateReason> {
        if !self.host && !self.http10 {
            return Err(GateReason::NoHost);
        }
        let body = match self.length {
            _ if self.has_encoding => Body::Chunked,
            None | Some(0) => Body::None,
            // RFC 9110 gives it no meaning, and old back ends read it as the next request.
            Some(_) if self.http10 && self.method == Method::GetOrHead => {
                return Err(GateReason::UnexpectedBody);
            }
            Some(length) => Body::Length(length),
        };
        // RFC 9110 §7.8: Upgrade is ignored in HTTP/1.0, and without its connection option.
        let upgrade = self.upgrade_option && self.has_upgrade && !self.http10;
        Ok(Framing { body, upgrade })
    }

    fn host(&mut self, value: &[u8]) -> Result<(), GateReason> {
        let host = HostPort::parse(value).ok_or(GateReason::BadHost)?;
        match &self.authority {
            Some(authority) if !authority.agrees(host) => Err(GateReason::HostMismatch),
            _ => Ok(()),
        }
    }
}

impl FieldRules for Message {
    const TOO_MANY: GateReason = GateReason::TooManyHeaders;

    #[inline]
    fn name(&mut self, name: &[u8]) -> Result<bool, GateReason> {
        self.field = recognize(name)?;
        match self.field {
            Field::Other => return Ok(false),
            Field::Connection | Field::Upgrade => {}
            Field::ContentLength => {
                if self.has_encoding {
                    return Err(GateReason::LengthWithEncoding);
                }
                if std::mem::replace(&mut self.has_length, true) {
                    return Err(GateReason::RepeatedLength);
                }
            }
            Field::Expect => {
                if std::mem::replace(&mut self.has_expect, true) {
                    return Err(GateReason::BadExpectation);
                }
            }
            Field::Host => {
                if std::mem::replace(&mut self.host, true) {
                    return Err(GateReason::RepeatedHost);
                }
            }
            Field::TransferEncoding => {
                if self.has_length {
                    return Err(GateReason::LengthWithEncoding);
                }
                if self.http10 || std::mem::replace(&mut self.has_encoding, true) {
                    return Err(GateReason::BadEncoding);
                }
            }
        }
        Ok(true)
    }

    fn value(&mut self, value: &[u8]) -> Result<(), GateReason> {
        match self.field {
            Field::Connection => {
                self.upgrade_option |= value
                    .split(|&byte| byte == b',')
                    .any(|option| trim(option).eq_ignore_ascii_case(b"upgrade"));
            }
            Field::ContentLength => {
                self.length = Some(parse_length(value).ok_or(GateReason::BadLength)?);
            }
            Field::Expect => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(GateReason::BadExpectation);
                }
            }
            Field::Host => self.host(value)?,
            Field::Other => {}
            Field::TransferEncoding => check_encoding(value)?,
            Field::Upgrade => self.has_upgrade |= !value.is_empty(),
        }
        Ok(())
    }
}

#[inline]
fn recognize(name: &[u8]) -> Result<Field, GateReason> {
    let (field, text): (_, &[u8]) = match name.len() {
        4 => (Field::Host, b"host"),
        6 => (Field::Expect, b"expect"),
        7 => (Field::Upgrade, b"upgrade"),
        10 => (Field::Connection, b"connection"),
        14 => (Field::ContentLength, b"content-length"),
        17 => (Field::TransferEncoding, b"transfer-encoding"),
        _ => return Ok(Field::Other),
    };
    if name.eq_ignore_ascii_case(text) {
        return Ok(field);
    }
    // Of the six only the framing fields hold a `-`.
    if same_name(name, text) {
        return Err(GateReason::FramingAlias);
    }
    Ok(Field::Other)
}

/// Whether two field names are one to a back end that takes `_` for `-`.
pub(super) fn same_name(name: &[u8], lower: &[u8]) -> bool {
    name.len() == lower.len()
        && name.iter().zip(lower).all(|(&byte, &expected)| {
            byte.eq_ignore_ascii_case(&expected) || (byte == b'_' && expected == b'-')
        })
}

/// `1*DIGIT` (RFC 9110 §8.6). Nineteen digits always fit 64 bits and are more than any body.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0_u64, |length, digit| {
        digit.is_ascii_digit().then(|| length * 10 + u64::from(digit - b'0'))
    })
}

/// Only `chunked`. A list of other codings ending in one `chunked` is understood but not
/// served: 501 (RFC 9112 §6.1); anything else has no certain length: 400 (§6.3).
fn check_encoding(value: &[u8]) -> Result<(), GateReason> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let mut codings = value.rsplit(|&byte| byte == b',').map(trim);
    let ends_chunked = codings.next().is_some_and(is_chunked);
    let plain = |coding: &[u8]| {
        !coding.is_empty()
            && !is_chunked(coding)
            && super::class::run(coding, super::class::TOKEN) == coding.len()
    };
    if ends_chunked && codings.all(plain) {
        return Err(GateReason::UnknownEncoding);
    }
    Err(GateReason::BadEncoding)
}
