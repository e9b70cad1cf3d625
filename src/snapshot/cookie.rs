//! Reading one cookie of a request: owns how the `Cookie` field is taken apart. Allocates nothing.
//!
//! Clients write `name=value` pairs with `; ` between them (RFC 6265 §4.2.1). Read is whatever
//! comes near it: the space may be missing or more, a pair without `=` is no cookie of any name,
//! quotes belong to the value, and bytes that no cookie should have are left as they are. Several
//! fields, which HTTP/2 sends for compression, are one (RFC 9113 §8.2.3).

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use http::HeaderMap;
use http::header::COOKIE;

/// The value of the first cookie called `name`; case matters.
pub(super) fn first<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let fields = headers.get_all(COOKIE).iter();
    fields.flat_map(|field| field.as_bytes().split(|&b| b == b';')).find_map(|pair| {
        let equals = pair.iter().position(|&b| b == b'=')?;
        let (raw, value) = (pair.get(..equals)?, pair.get(equals + 1..)?);
        (raw.trim_ascii() == name.as_bytes()).then(|| value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(fields: &[&str], name: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, field.parse().unwrap());
        }
        first(&headers, name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn the_first_of_the_name_counts_in_whichever_field_it_stands() {
        assert_eq!(value(&["a=1; b=2; a=3"], "a").as_deref(), Some("1"));
        assert_eq!(value(&["b=2", "c=3;a=1", "a=4"], "a").as_deref(), Some("1"));
        assert_eq!(value(&["aa=1; ba=2; A=3"], "a"), None);
        assert_eq!(value(&[], "a"), None);
    }

    #[test]
    fn what_only_comes_near_the_syntax_is_read_all_the_same() {
        assert_eq!(value(&["  a = x y  ;;b=2;"], "a").as_deref(), Some("x y"));
        assert_eq!(value(&["a; =1; a=b=c"], "a").as_deref(), Some("b=c"));
        assert_eq!(value(&["a="], "a").as_deref(), Some(""));
        assert_eq!(value(&["a=\"q\""], "a").as_deref(), Some("\"q\""));
        assert_eq!(value(&["a"], "a"), None);
    }
}
