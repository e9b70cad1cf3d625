//! Small values of what guards a route and of CORS.

use http::StatusCode;
use schemars::{Schema, json_schema};

use crate::ir::OriginPattern;
use crate::provider::file::field::Scalar;

/// No such policy, whatever the defaults say.
pub(in crate::provider::file) struct Off;

/// Origins of pages.
pub(in crate::provider::file) struct CorsOrigin(pub OriginPattern);

/// The status of a refusal.
pub(in crate::provider::file) struct RefusalStatus(pub StatusCode);

impl Scalar for Off {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" | "false" => Ok(Self),
            _ => Err("is not `off`\nwrite `off`, or a mapping".to_owned()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["off", false] })
    }
}

impl Scalar for CorsOrigin {
    fn parse(text: &str) -> Result<Self, String> {
        OriginPattern::parse(text).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(\*|[A-Za-z][A-Za-z0-9+.-]*://[^/?#]+)$",
            "examples": ["https://app.example.com", "https://*.example.com", "*"],
        })
    }
}

impl Scalar for RefusalStatus {
    fn parse(text: &str) -> Result<Self, String> {
        let status = text.parse().ok().filter(|code| (400_u16..=599).contains(code));
        match status.map(StatusCode::from_u16) {
            Some(Ok(status)) => Ok(Self(status)),
            _ => Err("is no status of a refusal\nuse 400 to 599, as 429 or 503".to_owned()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 400, "maximum": 599 })
    }
}
