//! Edits of what the upstream says about itself: attributes of its cookies, and the URLs to which
//! it sends clients.

use std::sync::Arc;

use http::header::{LOCATION, REFRESH, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::ir;

/// An edit of `Set-Cookie`, ready to apply.
#[derive(Debug)]
pub struct CookieEdits(ir::CookieEdit);

impl CookieEdits {
    /// Compiles an edit.
    pub fn new(edit: &ir::CookieEdit) -> Self {
        Self(edit.clone())
    }

    /// Applies it.
    pub fn apply(&self, headers: &mut HeaderMap) {
        if let http::header::Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) {
            for cookie in cookies.iter_mut() {
                if let Some(changed) = self.changed(cookie.as_bytes()) {
                    *cookie = changed;
                }
            }
        }
    }

    /// The cookie where it is another; attributes that are not edited stay byte for byte.
    fn changed(&self, cookie: &[u8]) -> Option<HeaderValue> {
        let mut parts = cookie.split(|byte| *byte == b';');
        let mut out = parts.next()?.to_vec();
        let mut any = false;
        for part in parts {
            out.push(b';');
            match self.attribute(part) {
                Some(new) => {
                    out.extend_from_slice(&new);
                    any = true;
                }
                None => out.extend_from_slice(part),
            }
        }
        HeaderValue::from_bytes(&out).ok().filter(|_| any)
    }

    fn attribute(&self, part: &[u8]) -> Option<Vec<u8>> {
        let equals = part.iter().position(|byte| *byte == b'=')?;
        let (name, value) = part.split_at_checked(equals)?;
        let (name, value) = (name.trim_ascii(), value.get(1..)?.trim_ascii());
        let new: Vec<u8> = if name.eq_ignore_ascii_case(b"domain") {
            let edit = self.0.domain.as_ref()?;
            let bare = |text: &[u8]| text.strip_prefix(b".").unwrap_or(text).to_ascii_lowercase();
            (bare(value) == bare(edit.from.as_bytes())).then(|| edit.to.as_bytes().to_vec())?
        } else if name.eq_ignore_ascii_case(b"path") {
            let edit = self.0.path.as_ref()?;
            let rest = value.strip_prefix(edit.from.as_bytes())?;
            [edit.to.as_bytes(), rest].concat()
        } else {
            return None;
        };
        Some([b" ", name, b"=", &new].concat())
    }
}

/// An edit of `Location` and `Refresh`, ready to apply.
#[derive(Debug)]
pub struct LocationEdits {
    from: Arc<str>,
    /// What the beginning becomes.
    pub to: ir::Template,
}

impl LocationEdits {
    /// Compiles an edit.
    pub fn new(edit: &ir::LocationEdit) -> Self {
        Self { from: edit.from.clone(), to: edit.to.clone() }
    }

    /// Applies it; `to` is the template's value for the request, none where that is empty.
    pub fn apply(&self, headers: &mut HeaderMap, to: Option<&HeaderValue>) {
        let to = to.map(HeaderValue::as_bytes).unwrap_or_default();
        self.field(headers, &LOCATION, to, |_| 0);
        // No RFC has it, and all browsers do: `5; url=https://example.com/`.
        self.field(headers, &REFRESH, to, |value| {
            let lower = value.to_ascii_lowercase();
            let at = lower.windows(4).position(|bytes| bytes == b"url=");
            at.map_or(value.len(), |at| at + 4)
        });
    }

    /// Edits the URL that begins at `start` of the field.
    fn field(
        &self,
        headers: &mut HeaderMap,
        name: &HeaderName,
        to: &[u8],
        start: impl Fn(&[u8]) -> usize,
    ) {
        let Some(value) = headers.get_mut(name) else { return };
        let bytes = value.as_bytes();
        let Some((before, url)) = bytes.split_at_checked(start(bytes)) else { return };
        if let Some(rest) = url.strip_prefix(self.from.as_bytes())
            && let Ok(new) = HeaderValue::from_bytes(&[before, to, rest].concat())
        {
            *value = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replace(from: &str, to: &str) -> Option<ir::Replace> {
        Some(ir::Replace { from: from.into(), to: to.into() })
    }

    fn edited(edit: ir::CookieEdit, cookie: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_static("first=1"));
        headers.append(SET_COOKIE, HeaderValue::from_str(cookie).expect("a value"));
        CookieEdits::new(&edit).apply(&mut headers);
        let mut values = headers.get_all(SET_COOKIE).iter();
        assert_eq!(values.next().map(HeaderValue::as_bytes), Some(&b"first=1"[..]));
        values.next().and_then(|value| value.to_str().ok()).expect("a cookie").to_owned()
    }

    #[test]
    fn attributes_of_cookies_change_and_nothing_else_does() {
        let both = || ir::CookieEdit {
            domain: replace("inner.local", "shop.example"),
            path: replace("/app/", "/"),
        };
        for (cookie, expected) in [
            ("a=b; Path=/app/x; HttpOnly", "a=b; Path=/x; HttpOnly"),
            ("a=b;path=/app/", "a=b; path=/"),
            ("a=b; Path=/apple", "a=b; Path=/apple"),
            ("a=b; Domain=.Inner.Local; Secure", "a=b; Domain=shop.example; Secure"),
            ("a=b; domain=x.inner.local", "a=b; domain=x.inner.local"),
            ("Path=/app/; Max-Age=1", "Path=/app/; Max-Age=1"),
            ("a=\"; Path=/app/\"", "a=\"; Path=/\""),
        ] {
            assert_eq!(edited(both(), cookie), expected);
        }
        let none = ir::CookieEdit::default();
        assert_eq!(edited(none, "a=b; Path=/; Domain=a"), "a=b; Path=/; Domain=a");
    }

    fn sent(from: &str, to: &str, name: HeaderName, value: &str) -> String {
        let template = ir::Template::literal("");
        let edits = LocationEdits::new(&ir::LocationEdit { from: from.into(), to: template });
        let mut headers = HeaderMap::new();
        headers.insert(&name, HeaderValue::from_str(value).expect("a value"));
        edits.apply(&mut headers, HeaderValue::from_str(to).ok().as_ref());
        headers[name].to_str().expect("text").to_owned()
    }

    #[test]
    fn urls_that_begin_so_begin_otherwise() {
        let location = |value| sent("http://inner/", "/", LOCATION, value);
        assert_eq!(location("http://inner/a?b"), "/a?b");
        assert_eq!(location("http://inner.example/"), "http://inner.example/");
        assert_eq!(location("/http://inner/"), "/http://inner/");
        let refresh = |value| sent("http://inner/", "https://out/", REFRESH, value);
        assert_eq!(refresh("5; URL=http://inner/a"), "5; URL=https://out/a");
        assert_eq!(refresh("http://inner/a"), "http://inner/a");
    }

    proptest! {
        #[test]
        fn a_cookie_without_these_attributes_stays_as_it_is(cookie in "[a-z=; \\-]{1,30}") {
            prop_assume!(!cookie.contains("path") && !cookie.contains("domain"));
            let edit = ir::CookieEdit { domain: replace("a", "b"), path: replace("", "/x") };
            prop_assert_eq!(edited(edit, &cookie), cookie);
        }
    }
}
