//! Virtual hosts and the patterns that select them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{HostClientAuth, Name, Origin, Route, Rule, TlsPassthrough};

/// Which hosts a virtual host answers for. Patterns are lower-case ASCII without a trailing dot.
/// The host that matches best answers for all its paths: another one is never tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// Any host nothing else matches: `*`.
    Any,
    /// Exactly this host: `shop.example.com`.
    Exact(Box<str>),
    /// One or more labels before this suffix, kept without the star: `*.example.com` is
    /// `example.com`. The longest suffix wins; the bare suffix itself does not match.
    Wildcard(Box<str>),
    /// The same with exactly one label before the suffix, as Kubernetes' Ingress has it: `a.example.com`
    /// and not `b.a.example.com`. It comes before every [`HostPattern::Wildcard`] that matches, too.
    OneLabel(Box<str>),
}

/// Why a text is no host pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// Nothing there.
    #[error("the host is empty")]
    Empty,
    /// A `*` anywhere but as the whole first label.
    #[error("a '*' may only be the whole first label, as in '*.example.com'")]
    MisplacedWildcard,
    /// A URL, or a part of one.
    #[error("a host has no scheme and no path")]
    Url,
    /// A port was given.
    #[error("a host has no port here; listeners have ports")]
    Port,
    /// Longer than 253 bytes, or a label that is empty or longer than 63.
    #[error("a label is empty or longer than 63 characters, or the name longer than 253")]
    Length,
    /// A character no host name has.
    #[error("a character that no host name has")]
    Character,
}

impl HostPattern {
    /// The same pattern, a wildcard's star standing for exactly one label.
    #[must_use]
    pub fn one_label(self) -> Self {
        match self {
            Self::Wildcard(suffix) => Self::OneLabel(suffix),
            other => other,
        }
    }

    /// Parses `*`, `*.suffix`, a DNS name or an IP literal (IPv6 with or without brackets).
    /// Case is folded and one trailing dot dropped.
    pub fn parse(text: &str) -> Result<Self, HostPatternError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text == "*" {
            return Ok(Self::Any);
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<std::net::Ipv6Addr>() {
            return Ok(Self::Exact(format!("[{ip}]").into()));
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            return Ok(Self::Wildcard(check_name(suffix)?));
        }
        check_name(text).map(Self::Exact)
    }
}

fn check_name(name: &str) -> Result<Box<str>, HostPatternError> {
    if name.is_empty() {
        return Err(HostPatternError::Empty);
    }
    if name.contains('/') {
        return Err(HostPatternError::Url);
    }
    if name.contains('*') {
        return Err(HostPatternError::MisplacedWildcard);
    }
    if name.contains(':') {
        return Err(HostPatternError::Port);
    }
    if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(HostPatternError::Length);
    }
    // Underscores are no host-name characters (RFC 1123) but stand in real internal names.
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(HostPatternError::Character);
    }
    Ok(name.to_ascii_lowercase().into())
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) | Self::OneLabel(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::OneLabel(_) => serializer.collect_str(&format_args!("{self} (one label)")),
            _ => serializer.collect_str(self),
        }
    }
}

/// Which listeners a virtual host is served on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerSelector {
    /// Every listener.
    #[default]
    All,
    /// These listeners only.
    Named(Arc<BTreeSet<Name>>),
}

impl ListenerSelector {
    /// Whether `listener` is selected.
    pub fn selects(&self, listener: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(listener),
        }
    }
}

/// The routes of one host pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VirtualHost {
    /// Which hosts.
    pub pattern: HostPattern,
    /// On which listeners.
    pub listeners: ListenerSelector,
    /// What clients must show in the TLS handshake; `None` is what their listener demands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<Box<HostClientAuth>>,
    /// Where TLS connections for it go; `None` terminates them here. With it, the routes get what comes
    /// without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_passthrough: Option<Box<TlsPassthrough>>,
    /// What is done with its requests before a route is looked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// The routes in declaration order; precedence is settled at compile.
    pub routes: Vec<Route>,
    /// Where it was declared.
    pub origin: Origin,
}
