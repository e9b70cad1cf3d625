//! Sessions: what a client shows to be sent to the same endpoint again, and what it is given.
//!
//! Knows the texts of cookies, nothing of how an endpoint is found for a session: that is
//! `balance::Sessions`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::balance::Session;
use crate::ir::{self, AffinityCookie, AffinityKey, Name, SameSite};

/// The affinity of one upstream, ready for requests.
pub enum Affinity {
    /// By a cookie this proxy sets.
    Cookie(Box<SessionCookie>),
    /// By the hash of a header the client sends.
    Header(http::HeaderName),
}

impl Affinity {
    /// Prepares the `affinity` of the upstream `name`.
    pub fn new(affinity: &ir::Affinity, name: &Name) -> Self {
        match &affinity.by {
            AffinityKey::Cookie(cookie) => Self::Cookie(Box::new(SessionCookie::new(cookie, name))),
            AffinityKey::Header(name) => Self::Header(name.clone()),
        }
    }

    /// Whether the client shows a session that began at this upstream. Headers do not tell.
    pub fn began_here(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Cookie(cookie) => cookie.began_here(headers),
            Self::Header(_) => false,
        }
    }
}

/// The cookie of an upstream's sessions.
pub struct SessionCookie {
    options: AffinityCookie,
    /// Everything after the value.
    attributes: String,
    cipher: Option<RandomizedNonceKey>,
    /// Stands for the upstream in its cookies: upstreams may have cookies of one name. The same in
    /// every process, which replicas rely on.
    home: [u8; NUMBER],
}

/// The bytes of each number in a cookie.
const NUMBER: usize = 8;
/// A session's two numbers and its upstream's.
const PLAIN: usize = 3 * NUMBER;

impl SessionCookie {
    /// Prepares the cookie of `upstream` with these options.
    pub fn new(options: &AffinityCookie, upstream: &Name) -> Self {
        // Without a working cipher no session is written rather than one in the clear.
        let cipher = options.secret.as_ref().and_then(|secret| {
            let key = digest(&SHA256, secret.expose());
            RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).ok()
        });
        let (mut home, name) = ([0; NUMBER], digest(&SHA256, upstream.as_str().as_bytes()));
        home.iter_mut().zip(name.as_ref()).for_each(|(byte, of)| *byte = *of);
        Self { attributes: attributes(options), options: options.clone(), cipher, home }
    }

    /// The session a client shows; `None` where it shows none, or one that was tampered with.
    /// Of several cookies of that name the first that is sound counts.
    pub fn read(&self, headers: &HeaderMap) -> Option<Session> {
        self.sessions(headers).map(|(session, _)| session).next()
    }

    /// Whether one of the cookies of that name is of a session that began at this upstream.
    fn began_here(&self, headers: &HeaderMap) -> bool {
        self.sessions(headers).any(|(_, home)| home == self.home)
    }

    /// The sessions in the cookies of that name, each with what stands for its upstream.
    fn sessions(&self, headers: &HeaderMap) -> impl Iterator<Item = (Session, [u8; NUMBER])> {
        let fields = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
        let pairs = fields.flat_map(|field| field.split(';'));
        let values = pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            (name.trim() == &*self.options.name).then(|| value.trim())
        });
        values.filter_map(|value| self.decode(value.trim_matches('"')))
    }

    /// The `Set-Cookie` that gives a client this session.
    pub fn write(&self, session: Session, over_tls: bool) -> Option<HeaderValue> {
        let value = self.encode(session)?;
        let secure = if self.options.secure.unwrap_or(over_tls) { "; Secure" } else { "" };
        let text = format!("{}={value}{}{secure}", self.options.name, self.attributes);
        HeaderValue::try_from(text).ok()
    }

    /// Whether a session moves on for good where its endpoint fails.
    pub fn changes_on_failure(&self) -> bool {
        self.options.change_on_failure
    }

    fn encode(&self, session: Session) -> Option<String> {
        let key = session.key.to_be_bytes();
        let bound = session.bound.unwrap_or(0).to_be_bytes();
        let mut text = [key, bound, self.home].concat();
        if self.options.secret.is_none() {
            return Some(URL_SAFE_NO_PAD.encode(text));
        }
        let scope = Aad::from(self.options.name.as_bytes());
        let nonce = self.cipher.as_ref()?.seal_in_place_append_tag(scope, &mut text).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &text].concat()))
    }

    fn decode(&self, value: &str) -> Option<(Session, [u8; NUMBER])> {
        // No honest value is longer; what is, is not worth decoding.
        if value.len() > 4 * (NONCE_LEN + PLAIN + AES_256_GCM.tag_len()) {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let plain: &[u8] = match (&self.options.secret, &self.cipher) {
            (None, _) => &bytes,
            (Some(_), None) => return None,
            (Some(_), Some(cipher)) => {
                let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                let scope = Aad::from(self.options.name.as_bytes());
                cipher.open_in_place(nonce, scope, sealed).ok()?
            }
        };
        let (key, rest) = plain.split_first_chunk()?;
        let (bound, home) = rest.split_first_chunk()?;
        let (key, bound) = (u64::from_be_bytes(*key), u64::from_be_bytes(*bound));
        let session = Session { key, bound: (bound != 0).then_some(bound) };
        Some((session, home.try_into().ok()?))
    }
}

fn attributes(options: &AffinityCookie) -> String {
    let mut text = format!("; Path={}", options.path);
    if let Some(domain) = &options.domain {
        text.push_str("; Domain=");
        text.push_str(domain);
    }
    if let Some(age) = options.max_age {
        text.push_str("; Max-Age=");
        text.push_str(&age.as_secs().to_string());
    }
    if options.http_only {
        text.push_str("; HttpOnly");
    }
    text.push_str(match options.same_site {
        None => "",
        Some(SameSite::Lax) => "; SameSite=Lax",
        Some(SameSite::None) => "; SameSite=None",
        Some(SameSite::Strict) => "; SameSite=Strict",
    });
    if options.partitioned {
        text.push_str("; Partitioned");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::ir::SecretBytes;

    fn cookie(secret: Option<&str>) -> SessionCookie {
        let secret = secret.map(|secret| SecretBytes::new(secret.as_bytes()));
        let options = AffinityCookie { secret, ..AffinityCookie::default() };
        SessionCookie::new(&options, &Name::from("app"))
    }

    fn shown(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(text).unwrap())])
    }

    fn value(cookie: &SessionCookie, session: Session) -> String {
        let set = cookie.write(session, false).unwrap();
        set.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    const SESSION: Session = Session { key: 7, bound: Some(9) };

    #[test]
    fn attributes_are_written_as_configured() {
        let options = AffinityCookie {
            name: "route".into(),
            path: "/shop".into(),
            domain: Some("example.com".into()),
            max_age: Some(Duration::from_secs(3600)),
            same_site: Some(SameSite::Strict),
            partitioned: true,
            ..AffinityCookie::default()
        };
        let text = SessionCookie::new(&options, &Name::from("app")).write(SESSION, true).unwrap();
        let text = text.to_str().unwrap();
        let (pair, attributes) = text.split_once("; ").unwrap();
        assert!(pair.starts_with("route="));
        assert_eq!(
            attributes,
            "Path=/shop; Domain=example.com; Max-Age=3600; HttpOnly; SameSite=Strict; Partitioned; Secure"
        );
    }

    #[test]
    fn a_sealed_session_opens_with_its_own_secret_only() {
        let text = value(&cookie(Some("one")), SESSION);
        assert_eq!(cookie(Some("one")).read(&shown(&text)), Some(SESSION));
        assert_eq!(cookie(Some("two")).read(&shown(&text)), None);
        assert_eq!(cookie(None).read(&shown(&text)), None);
    }

    #[test]
    fn a_sealed_session_never_looks_the_same_twice() {
        let cookie = cookie(Some("one"));
        assert_ne!(value(&cookie, SESSION), value(&cookie, SESSION));
    }

    #[test]
    fn a_session_tells_the_upstream_it_began_at() {
        let of = |secret: Option<&str>, upstream: &str| {
            let secret = secret.map(|secret| SecretBytes::new(secret.as_bytes()));
            let options = AffinityCookie { secret, ..AffinityCookie::default() };
            SessionCookie::new(&options, &Name::from(upstream))
        };
        for secret in [None, Some("one")] {
            let (main, next) = (of(secret, "main"), of(secret, "next"));
            let text = value(&main, SESSION);
            assert!(main.began_here(&shown(&text)) && !next.began_here(&shown(&text)));
            assert_eq!(next.read(&shown(&text)), Some(SESSION), "else it is as good as any");
            let both = format!("{text}; {}", value(&next, SESSION));
            assert!(main.began_here(&shown(&both)) && next.began_here(&shown(&both)));
        }
        assert!(!of(None, "main").began_here(&HeaderMap::new()));
    }

    #[test]
    fn a_tampered_session_is_no_session() {
        let cookie = cookie(Some("one"));
        let text = value(&cookie, SESSION);
        for place in "portcullis=".len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            let read = cookie.read(&shown(&changed));
            // The last character has bits that mean nothing.
            assert!(read.is_none() || place + 1 == text.len(), "at {place}");
        }
    }

    #[test]
    fn the_first_sound_cookie_of_the_name_counts() {
        let cookie = cookie(None);
        let text = value(&cookie, SESSION);
        let headers = shown(&format!("a=b; xportcullis=1; portcullis=; portcullis=?; {text}; c=d"));
        assert_eq!(cookie.read(&headers), Some(SESSION));
        assert_eq!(cookie.read(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(key: u64, bound: Option<u64>, sealed: bool) {
            let cookie = cookie(sealed.then_some("secret"));
            let session = Session { key, bound: bound.filter(|bound| *bound != 0) };
            prop_assert_eq!(cookie.read(&shown(&value(&cookie, session))), Some(session));
        }

        #[test]
        fn garbage_is_no_session(text in "[ -~]{0,200}") {
            let _ = cookie(None).read(&shown(&format!("portcullis={text}")));
            prop_assert_eq!(cookie(Some("s")).read(&shown(&format!("portcullis={text}"))), None);
        }
    }
}
