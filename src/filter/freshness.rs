//! For how long an answer may be used again, as far as its own fields say. What nginx's proxy cache
//! goes by is gone by here, but nothing makes an answer last longer than the configuration does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CACHE_CONTROL, EXPIRES, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

const X_ACCEL_EXPIRES: HeaderName = HeaderName::from_static("x-accel-expires");

/// For how long an answer with these fields may be used again, `most` at most; `None` where it may
/// not. One that sets a cookie is for one client.
pub fn lifetime(headers: &HeaderMap, most: Duration, now: SystemTime) -> Option<Duration> {
    if headers.contains_key(SET_COOKIE) {
        return None;
    }
    let said = match headers.get(X_ACCEL_EXPIRES) {
        Some(value) => accel(value, now)?,
        None => match cache_control(headers)? {
            Some(age) => age,
            None => match headers.get(EXPIRES) {
                Some(value) => until(httpdate::parse_http_date(value.to_str().ok()?).ok()?, now),
                None => most,
            },
        },
    };
    Some(said.min(most)).filter(|time| !time.is_zero())
}

/// Seconds, or with an `@` the second of the epoch at which it ends.
fn accel(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?;
    match text.strip_prefix('@') {
        Some(second) => {
            let end = UNIX_EPOCH.checked_add(Duration::from_secs(second.parse().ok()?))?;
            Some(until(end, now))
        }
        None => Some(Duration::from_secs(text.parse().ok()?)),
    }
}

/// The age that `Cache-Control` allows, if it says one; `None` where it forbids to keep anything.
/// A shared cache's own (`s-maxage`) comes first (RFC 9111 §5.2.2.10).
#[expect(clippy::option_option, reason = "that nothing is said and that it is forbidden differ")]
fn cache_control(headers: &HeaderMap) -> Option<Option<Duration>> {
    let (mut age, mut shared) = (None, None);
    for field in headers.get_all(CACHE_CONTROL) {
        for directive in field.to_str().ok()?.split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let seconds = || value.trim().trim_matches('"').parse().ok().map(Duration::from_secs);
            match name.trim().to_ascii_lowercase().as_str() {
                "no-cache" | "no-store" | "private" => return None,
                "max-age" => age = Some(seconds()?),
                "s-maxage" => shared = Some(seconds()?),
                _ => {}
            }
        }
    }
    Some(shared.or(age))
}

fn until(end: SystemTime, now: SystemTime) -> Duration {
    end.duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(300);

    fn seconds(fields: &[(&'static str, &str)]) -> Option<u64> {
        let fields = fields.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        });
        let mut headers = HeaderMap::new();
        fields.for_each(|(name, value)| {
            headers.append(name, value);
        });
        // Thu, 01 Jan 1970 00:16:40 GMT.
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        lifetime(&headers, MOST, now).map(|time| time.as_secs())
    }

    #[test]
    fn an_answer_is_kept_no_longer_than_it_says_itself() {
        type Case<'t> = (&'t [(&'static str, &'t str)], Option<u64>);
        let cases: [Case<'_>; 22] = [
            (&[], Some(300)),
            (&[("set-cookie", "a=b")], None),
            (&[("cache-control", "no-store")], None),
            (&[("cache-control", "No-Cache")], None),
            (&[("cache-control", "public, private=\"x\"")], None),
            (&[("cache-control", "public")], Some(300)),
            (&[("cache-control", "max-age=60")], Some(60)),
            (&[("cache-control", "max-age=600")], Some(300)),
            (&[("cache-control", "max-age=0")], None),
            (&[("cache-control", "max-age=soon")], None),
            (&[("cache-control", "max-age=60, s-maxage=10")], Some(10)),
            (&[("cache-control", "s-maxage=\"10\", max-age=60")], Some(10)),
            (&[("cache-control", "max-age=60"), ("cache-control", "no-store")], None),
            (&[("expires", "Thu, 01 Jan 1970 00:17:00 GMT")], Some(20)),
            (&[("expires", "Thu, 01 Jan 1970 00:16:00 GMT")], None),
            (&[("expires", "0")], None),
            (&[("expires", "0"), ("cache-control", "max-age=60")], Some(60)),
            (&[("x-accel-expires", "5"), ("cache-control", "no-store")], Some(5)),
            (&[("x-accel-expires", "0")], None),
            (&[("x-accel-expires", "@1030")], Some(30)),
            (&[("x-accel-expires", "@10")], None),
            (&[("x-accel-expires", "5"), ("set-cookie", "a=b")], None),
        ];
        for (fields, expected) in cases {
            assert_eq!(seconds(fields), expected, "{fields:?}");
        }
    }
}
