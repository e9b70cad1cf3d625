//! How the configuration is dumped: durations and shares as people write them, and of a policy
//! only what differs from its defaults.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// A duration as the configuration language writes it: `1m30s`, `250ms`, `0s`. What is finer than
/// a millisecond is written in microseconds or nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            ("d", 86_400_000_000_000),
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
        ];
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in units {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

/// A duration as text.
pub(super) fn span<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Span(*value))
}

/// A duration as text where there is one.
pub(super) fn some_span<S: Serializer>(
    value: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => span(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// Whether a dump can leave the value out.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whether a dump can leave out a policy that is on with its defaults unless turned off.
pub(super) fn is_on_by_default<T: Default + PartialEq>(value: &Option<T>) -> bool {
    value.as_ref().is_some_and(is_default)
}

/// What of a policy differs from its defaults; `null` stands for what the defaults have and it
/// has not.
pub(super) fn differing<T: Default + Serialize, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let json = |value: &T| serde_json::to_value(value).map_err(serde::ser::Error::custom);
    difference(json(value)?, &json(&T::default())?).serialize(serializer)
}

/// `differing` for a policy that can be off, dumped as `null`.
pub(super) fn some_differing<T: Default + Serialize, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => differing(value, serializer),
        None => serializer.serialize_none(),
    }
}

fn difference(value: Value, default: &Value) -> Value {
    let (mut fields, defaults) = match (value, default) {
        (Value::Object(fields), Value::Object(defaults)) => (fields, defaults),
        (value, _) => return value,
    };
    // Two variants of an enum have nothing to compare.
    if fields.keys().all(|key| !defaults.contains_key(key)) && defaults.len() == 1 {
        return Value::Object(fields);
    }
    let mut left = Map::new();
    for (key, default) in defaults {
        match fields.remove(key) {
            Some(value) if value == *default => {}
            Some(value) => drop(left.insert(key.clone(), difference(value, default))),
            None => drop(left.insert(key.clone(), Value::Null)),
        }
    }
    left.extend(fields);
    Value::Object(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Balance, BalancePolicy, Outlier, PeakEwma, Permille};

    #[test]
    fn a_span_is_written_as_in_the_language() {
        for (nanos, text) in [
            (0, "0s"),
            (90_000_000_000, "1m30s"),
            (250_000_000, "250ms"),
            (1_500_000, "1ms500us"),
            (90_061_000_000_007, "1d1h1m1s7ns"),
        ] {
            assert_eq!(Span(Duration::from_nanos(nanos)).to_string(), text);
        }
    }

    #[test]
    fn a_dump_of_a_policy_holds_what_differs() {
        let json = |policy: &BalancePolicy| {
            let mut out = Vec::new();
            differing(policy, &mut serde_json::Serializer::new(&mut out)).unwrap();
            String::from_utf8(out).unwrap()
        };
        let mut policy = BalancePolicy::default();
        assert_eq!(json(&policy), "{}");
        policy.algorithm =
            Balance::PeakEwma(PeakEwma { decay: Duration::from_secs(3), ..PeakEwma::default() });
        policy.panic_threshold = Permille(125);
        assert_eq!(
            json(&policy),
            r#"{"algorithm":{"peak_ewma":{"decay":"3s"}},"panic_threshold":"12.5%"}"#
        );
        policy = BalancePolicy { algorithm: Balance::Random, ..BalancePolicy::default() };
        assert_eq!(json(&policy), r#"{"algorithm":"random"}"#);
        policy.algorithm = Balance::LeastRequest(Default::default());
        assert_eq!(json(&policy), r#"{"algorithm":{"least_request":{"choices":2,"full_scan":4}}}"#);
    }

    #[test]
    fn what_the_defaults_have_and_a_policy_has_not_is_null() {
        let policy = Some(Outlier { success_rate: None, ..Outlier::default() });
        assert!(!is_on_by_default(&policy) && is_on_by_default(&Some(Outlier::default())));
        let mut out = Vec::new();
        some_differing(&policy, &mut serde_json::Serializer::new(&mut out)).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"success_rate":null}"#);
    }
}
