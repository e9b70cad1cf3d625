//! Whether what a client showed in its TLS handshake is what its host demands.

use std::fmt;

use regex::Regex;

use crate::ir::{HostClientAuth, HostClientAuthMode, Template};

/// What a client showed in its TLS handshake.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// No certificate, or there was no handshake.
    Nothing,
    /// One that is not good, and why.
    Bad {
        /// Whether all that is wrong with it is that nobody trusted has signed it.
        untrusted: bool,
        /// What is wrong with it.
        why: &'a str,
    },
    /// A good one, of this subject (RFC 4514).
    Good(&'a str),
}

/// Why a client is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection<'a> {
    /// It showed no certificate, or a bad one; in words.
    Certificate(&'a str),
    /// It is somebody else.
    Subject,
}

/// A host's demand ready to judge clients by.
#[derive(Debug)]
pub struct ClientAuth {
    mode: HostClientAuthMode,
    subject: Option<Regex>,
    /// Where clients without a good certificate are sent.
    pub error_page: Option<Template>,
    /// Whether upstreams get the certificate itself.
    pub forward: bool,
}

impl ClientAuth {
    /// Compiles a demand.
    ///
    /// # Errors
    /// If the expression is none; in words.
    pub fn new(spec: &HostClientAuth) -> Result<Self, String> {
        let compile = |text: &std::sync::Arc<str>| {
            Regex::new(text).map_err(|_| format!("the subject \"{text}\" is no expression"))
        };
        Ok(Self {
            mode: spec.mode,
            subject: spec.subject.as_ref().map(compile).transpose()?,
            error_page: spec.error_page.clone(),
            forward: spec.forward,
        })
    }

    /// Whether a client that showed this may be served. Only a verified certificate says who
    /// somebody is.
    ///
    /// # Errors
    /// If it may not.
    pub fn judge<'a>(&self, shown: Shown<'a>) -> Result<(), Objection<'a>> {
        match shown {
            Shown::Nothing if self.mode == HostClientAuthMode::Required => {
                return Err(Objection::Certificate("no client certificate was shown"));
            }
            Shown::Bad { untrusted, why }
                if !(untrusted && self.mode == HostClientAuthMode::OptionalUntrusted) =>
            {
                return Err(Objection::Certificate(why));
            }
            Shown::Nothing | Shown::Bad { .. } | Shown::Good(_) => {}
        }
        match (&self.subject, shown) {
            (None, _) => Ok(()),
            (Some(wanted), Shown::Good(subject)) if wanted.is_match(subject) => Ok(()),
            (Some(_), _) => Err(Objection::Subject),
        }
    }
}

impl fmt::Display for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mode {
            HostClientAuthMode::Optional => "a client certificate is verified where one comes",
            HostClientAuthMode::OptionalUntrusted => "a client certificate is asked for",
            HostClientAuthMode::Required => "a client certificate is required",
        })?;
        if let Some(subject) = &self.subject {
            write!(f, ", its subject is like \"{subject}\"")?;
        }
        match &self.error_page {
            Some(page) => write!(f, ", else clients go to {page}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ClientTrust;

    fn auth(mode: HostClientAuthMode, subject: Option<&str>) -> ClientAuth {
        let spec = HostClientAuth {
            mode,
            trust: ClientTrust::Missing(String::new()),
            subject: subject.map(Into::into),
            error_page: None,
            forward: false,
            ca_at: None,
            crl_at: None,
        };
        ClientAuth::new(&spec).expect("an expression")
    }

    #[test]
    fn every_mode_lets_in_whom_it_should() {
        use HostClientAuthMode::{Optional, OptionalUntrusted, Required};
        let untrusted = Shown::Bad { untrusted: true, why: "unknown_ca" };
        let expired = Shown::Bad { untrusted: false, why: "certificate_expired" };
        let good = Shown::Good("CN=alice");
        for (mode, shown, expected) in [
            (Required, Shown::Nothing, false),
            (Required, untrusted, false),
            (Required, expired, false),
            (Required, good, true),
            (Optional, Shown::Nothing, true),
            (Optional, untrusted, false),
            (Optional, expired, false),
            (Optional, good, true),
            (OptionalUntrusted, Shown::Nothing, true),
            (OptionalUntrusted, untrusted, true),
            (OptionalUntrusted, expired, false),
            (OptionalUntrusted, good, true),
        ] {
            assert_eq!(auth(mode, None).judge(shown).is_ok(), expected, "{mode:?} {shown:?}");
        }
    }

    #[test]
    fn a_subject_is_that_of_a_verified_certificate() {
        use HostClientAuthMode::{Optional, OptionalUntrusted};
        let alice = Some("CN=(alice|bob)(,|$)");
        let judge = |mode, shown| auth(mode, alice).judge(shown);
        assert_eq!(judge(Optional, Shown::Good("CN=bob,O=x")), Ok(()));
        assert_eq!(judge(Optional, Shown::Good("CN=bobby")), Err(Objection::Subject));
        assert_eq!(judge(Optional, Shown::Nothing), Err(Objection::Subject));
        let untrusted = Shown::Bad { untrusted: true, why: "unknown_ca" };
        assert_eq!(judge(OptionalUntrusted, untrusted), Err(Objection::Subject));
    }
}
