//! The `Date` field of responses (RFC 9110 §6.6.1), written once a second.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// The date of this second; a worker's own.
pub struct Dates(RefCell<(u64, HeaderValue)>);

impl Dates {
    pub fn new() -> Self {
        Self(RefCell::new((u64::MAX, HeaderValue::from_static(""))))
    }

    /// Now, as a field value.
    pub fn now(&self) -> HeaderValue {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut known = self.0.borrow_mut();
        if known.0 != second
            && let Ok(value) = HeaderValue::try_from(httpdate::fmt_http_date(now))
        {
            *known = (second, value);
        }
        known.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_date_of_this_second() {
        let (dates, before) = (Dates::new(), SystemTime::now());
        let read = |value: HeaderValue| httpdate::parse_http_date(value.to_str().unwrap()).unwrap();
        let (first, second) = (read(dates.now()), read(dates.now()));
        assert!(first <= second && second <= SystemTime::now());
        assert!(before.duration_since(first).is_ok_and(|age| age.as_secs() < 2));
    }
}
