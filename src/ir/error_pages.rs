//! Answers of another upstream in the place of errors.

use http::HeaderName;
use serde::Serialize;

use super::{Name, Template};

/// Which responses of a route are replaced by those of another upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorPages {
    /// The statuses, each from and to inclusively; those of the upstream and the proxy's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<(u16, u16)>,
    /// Whether it also answers where no endpoint of the route's upstream may be picked: it gets the request
    /// as the upstream would have got it, path and body included, and the same fields.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_endpoint: bool,
    /// Who answers instead. It is asked for `/`, with the method of the request and without its
    /// body, and `X-Code`, `X-Format` and `X-Original-URI` tell what went wrong with what.
    pub upstream: Name,
    /// Fields that it gets beside those.
    #[serde(serialize_with = "super::auth::fields", skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(HeaderName, Template)>,
}
