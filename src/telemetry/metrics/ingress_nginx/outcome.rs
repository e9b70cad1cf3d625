//! What became of a request, in closed sets: clients and endpoints choose methods and statuses,
//! and each one that is seen becomes a series.

use http::Method;

/// A method, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MethodLabel(u8);

const METHODS: [&str; 9] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
/// The label of every other method.
const OTHER: &str = "_OTHER";

impl MethodLabel {
    /// The label of `method`; those that nobody registered with HTTP itself share one.
    pub fn of(method: &Method) -> Self {
        let known = METHODS.iter().position(|known| *known == method.as_str());
        Self(known.unwrap_or(METHODS.len()) as u8)
    }

    /// The label value: `GET`, or `_OTHER`.
    pub(super) fn as_str(self) -> &'static str {
        METHODS.get(usize::from(self.0)).copied().unwrap_or(OTHER)
    }
}

/// A status, as a label: the code where it is one that means something to somebody, else its
/// class. Below 10 it is a class; 0 is no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StatusLabel(u16);

impl StatusLabel {
    /// The label of `status`; 0 where none was sent.
    pub(super) fn of(status: u16) -> Self {
        match status {
            // The registered ones, and those that nginx made for itself.
            100..=103
            | 200..=208
            | 226
            | 300..=308
            | 400..=418
            | 421..=426
            | 428
            | 429
            | 431
            | 444
            | 451
            | 494..=499
            | 500..=511 => Self(status),
            100..=599 => Self(status / 100),
            _ => Self(0),
        }
    }

    /// The label value: `200`, `4xx` for a code that is not known, `-` for none.
    pub(super) fn text(self) -> String {
        match self.0 {
            0 => "-".to_owned(),
            class @ 1..=9 => format!("{class}xx"),
            code => code.to_string(),
        }
    }
}

/// What series a request belongs to among those of its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Outcome {
    pub method: MethodLabel,
    pub status: StatusLabel,
}
