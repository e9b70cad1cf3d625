//! HTTP basic authentication (RFC 7617): what is asked for, and what a client shows.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::htpasswd::{Fault, Htpasswd};

const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Basic authentication of a route, ready to ask for.
#[derive(Debug)]
pub struct BasicAuth {
    /// The value of `WWW-Authenticate`.
    pub challenge: HeaderValue,
    /// Who may come in.
    pub users: Htpasswd,
}

impl BasicAuth {
    /// Asks for one of the users of the password file `htpasswd`. What of that lets nobody in is
    /// told beside it; a realm that cannot be sent is an error.
    pub fn new(realm: &str, htpasswd: &[u8]) -> Result<(Self, Vec<Fault>), String> {
        let mut challenge = String::from("Basic realm=\"");
        for character in realm.chars() {
            if matches!(character, '"' | '\\') {
                challenge.push('\\');
            }
            challenge.push(character);
        }
        challenge.push_str("\", charset=\"UTF-8\"");
        let challenge = HeaderValue::from_bytes(challenge.as_bytes())
            .map_err(|_| "the realm has characters no header may have".to_owned())?;
        let (users, faults) = Htpasswd::parse(htpasswd);
        Ok((Self { challenge, users }, faults))
    }
}

/// A user name and password as a client shows them.
pub struct Login {
    bytes: Vec<u8>,
    /// Where the colon between the two is.
    colon: usize,
}

impl Login {
    /// What `Authorization` says; `None` where it does not say exactly one login.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return None };
        let (scheme, rest) = field.as_bytes().split_at_checked(b"basic ".len())?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let bytes = ANY_PADDING.decode(rest.trim_ascii()).ok()?;
        let colon = bytes.iter().position(|byte| *byte == b':')?;
        Some(Self { bytes, colon })
    }

    /// The user's name.
    pub fn user(&self) -> &[u8] {
        self.bytes.get(..self.colon).unwrap_or_default()
    }

    /// The password.
    pub fn password(&self) -> &[u8] {
        self.bytes.get(self.colon.saturating_add(1)..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn login(fields: &[&[u8]]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(field).ok()?);
        }
        Login::of(&headers).map(|login| (login.user().to_vec(), login.password().to_vec()))
    }

    #[test]
    fn one_login_is_read_and_anything_else_is_none() {
        let shown = |user: &str, password: &str| Some((user.into(), password.into()));
        // The example of RFC 7617 §2, and that of §2.1 in UTF-8.
        let aladdin = b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(login(&[aladdin]), shown("Aladdin", "open sesame"));
        assert_eq!(login(&[b"Basic dGVzdDoxMjPCow=="]), shown("test", "123£"));
        assert_eq!(login(&[b"bASIC  QWxhZGRpbjpvcGVuIHNlc2FtZQ"]), shown("Aladdin", "open sesame"));
        assert_eq!(login(&[b"Basic Ojo="]), shown("", ":"));
        for fields in [
            &[][..],
            &[&b"Basic"[..]],
            &[b"Basic "],
            &[b"Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ=="],
            &[b"BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ=="],
            &[b"Basic QWxhZGRpbg=="],
            &[b"Basic QWxh ZGRpbjpvcGVuIHNlc2FtZQ=="],
            &[b"Basic \xff\xff"],
            &[aladdin, aladdin],
        ] {
            assert_eq!(login(fields), None, "{fields:?}");
        }
    }

    #[test]
    fn a_realm_is_quoted_and_cannot_end_its_line() {
        let challenge = |realm: &str| BasicAuth::new(realm, b"").map(|(auth, _)| auth.challenge);
        assert_eq!(
            challenge("the \"back\\office\"").expect("a realm"),
            "Basic realm=\"the \\\"back\\\\office\\\"\", charset=\"UTF-8\""
        );
        assert!(challenge("a\r\nSet-Cookie: b").is_err());
    }

    proptest! {
        #[test]
        fn what_a_client_encodes_is_what_is_read(user in "[^:]{0,20}", password in ".{0,20}") {
            let text = format!("Basic {}", ANY_PADDING.encode(format!("{user}:{password}")));
            let expected = Some((user.into_bytes(), password.into_bytes()));
            prop_assert_eq!(login(&[text.as_bytes()]), expected);
        }
    }
}
