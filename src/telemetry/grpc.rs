//! The status codes of gRPC, as logs, metrics and the configuration name them.

/// A status code of gRPC (`google.rpc.Code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrpcCode(u8);

impl GrpcCode {
    /// The names of all codes; the index is the code.
    pub const NAMES: [&'static str; 17] = [
        "ok",
        "cancelled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
    ];

    /// What a client makes of a call that ends without a code, or with one that is none.
    pub const UNKNOWN: Self = Self(2);

    /// The code in the value of `grpc-status`.
    pub fn of(value: &[u8]) -> Self {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let known = number.filter(|number| usize::from(*number) < Self::NAMES.len());
        known.map_or(Self::UNKNOWN, Self)
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The name.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or("unknown")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbers_and_everything_else_is_unknown() {
        for (number, name) in (0..).zip(GrpcCode::NAMES) {
            let code = GrpcCode::of(format!("{number}").as_bytes());
            assert_eq!((code.number(), code.as_str()), (number, name));
        }
        for value in ["17", "999", "-1", "", "ok", "1 4", "\u{e4}"] {
            assert_eq!(GrpcCode::of(value.as_bytes()), GrpcCode::UNKNOWN, "{value:?}");
        }
    }
}
