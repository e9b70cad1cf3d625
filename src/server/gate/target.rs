//! The four forms of a request target (RFC 9112 §3.2).

use super::GateReason;
use super::host::HostPort;

/// The authority of a target in absolute form, kept to be compared with Host.
pub(super) struct Authority {
    text: Box<[u8]>,
    default_port: u16,
}

impl Authority {
    /// Whether Host names the same host and port: case folded, the scheme's port implied.
    pub(super) fn agrees(&self, host: HostPort<'_>) -> bool {
        HostPort::parse(&self.text).is_some_and(|own| own.same(host, self.default_port))
    }
}

/// Checks the form of a target whose bytes were checked. Origin form for every method, absolute
/// form with `http` or `https` and no userinfo, `*` for OPTIONS; authority form belongs to
/// CONNECT alone, which never gets here.
pub(super) fn check(target: &[u8], options: bool) -> Result<Option<Authority>, GateReason> {
    match target {
        [b'/', ..] => Ok(None),
        b"*" if options => Ok(None),
        _ => absolute(target).map(Some),
    }
}

fn absolute(target: &[u8]) -> Result<Authority, GateReason> {
    let (rest, default_port) = after_scheme(target, b"http://")
        .map(|rest| (rest, 80))
        .or_else(|| after_scheme(target, b"https://").map(|rest| (rest, 443)))
        .ok_or(GateReason::BadTarget)?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let text = rest.get(..end).unwrap_or_default();
    HostPort::parse(text).ok_or(GateReason::BadHost)?;
    Ok(Authority { text: text.into(), default_port })
}

fn after_scheme<'t>(target: &'t [u8], scheme: &[u8]) -> Option<&'t [u8]> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}
