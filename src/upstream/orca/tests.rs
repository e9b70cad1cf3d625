//! Reports: what an independent encoder writes is read back, and nothing else gets through.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::parse::{MAX_LENGTH, MAX_METRICS, MAX_NAME};
use super::*;

/// The message, plainly.
#[derive(Clone, Debug, Default, PartialEq)]
struct Message {
    plain: BTreeMap<&'static str, f64>,
    maps: BTreeMap<(&'static str, String), f64>,
}

const PLAIN: [(&str, u64); 5] = [
    ("cpu_utilization", 1),
    ("mem_utilization", 2),
    ("rps_fractional", 6),
    ("eps", 7),
    ("application_utilization", 9),
];
const MAPS: [(&str, u64); 3] = [("request_cost", 4), ("utilization", 5), ("named_metrics", 8)];

impl Message {
    fn note(&mut self, metric: Metric<'_>, value: f64) {
        match metric {
            Metric::Application => self.plain.insert("application_utilization", value),
            Metric::Cpu => self.plain.insert("cpu_utilization", value),
            Metric::Eps => self.plain.insert("eps", value),
            Metric::Memory => self.plain.insert("mem_utilization", value),
            Metric::Named(key) => self.maps.insert(("named_metrics", key.into()), value),
            Metric::RequestCost(key) => self.maps.insert(("request_cost", key.into()), value),
            Metric::Rps => self.plain.insert("rps_fractional", value),
            Metric::RpsWhole => self.plain.insert("rps", value),
            Metric::Utilization(key) => self.maps.insert(("utilization", key.into()), value),
        };
    }

    /// The JSON parser may be off by a unit in the last place.
    fn is_about(&self, other: &Self) -> bool {
        let near = |a: &f64, b: &f64| (a - b).abs() <= b.abs() * 1e-15;
        self.plain.keys().eq(other.plain.keys())
            && self.maps.keys().eq(other.maps.keys())
            && self.plain.values().zip(other.plain.values()).all(|(a, b)| near(a, b))
            && self.maps.values().zip(other.maps.values()).all(|(a, b)| near(a, b))
    }

    fn text(&self, separator: char) -> String {
        let plain = self.plain.iter().map(|(name, value)| format!("{name}{separator}{value}"));
        let maps =
            self.maps.iter().map(|((map, key), value)| format!("{map}.{key}{separator}{value}"));
        plain.chain(maps).collect::<Vec<_>>().join(",")
    }

    fn json(&self, camel: bool) -> String {
        let mut object = serde_json::Map::new();
        let spelt = |name: &str| if camel { camel_case(name) } else { name.to_owned() };
        for (name, value) in &self.plain {
            object.insert(spelt(name), (*value).into());
        }
        for ((map, key), value) in &self.maps {
            let entries = object.entry(spelt(map)).or_insert_with(|| serde_json::json!({}));
            entries[key] = (*value).into();
        }
        object.insert("unknown".into(), serde_json::json!({ "a": [1, { "b": null }] }));
        serde_json::Value::Object(object).to_string()
    }

    fn protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in self.plain.iter().rev() {
            double(&mut out, number_of(&PLAIN, name), *value);
        }
        // Unknown fields of every wire type stand between.
        out.extend([0xa0, 0x06, 0x96, 0x01]);
        out.extend([0xa5, 0x06, 1, 2, 3, 4]);
        out.extend([0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8]);
        out.extend([0xa2, 0x06, 3, b'a', b'b', b'c']);
        for ((map, key), value) in &self.maps {
            let mut entry = Vec::new();
            double(&mut entry, 2, *value);
            length_delimited(&mut entry, 1, key.as_bytes());
            length_delimited(&mut out, number_of(&MAPS, map), &entry);
        }
        out
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        camel.push_str(&word[..1].to_uppercase());
        camel.push_str(&word[1..]);
    }
    camel
}

fn number_of(fields: &[(&str, u64)], name: &str) -> u64 {
    fields.iter().find(|(field, _)| *field == name).expect("a field of the message").1
}

fn varint(out: &mut Vec<u8>, mut integer: u64) {
    while integer >= 0x80 {
        out.push(integer as u8 | 0x80);
        integer >>= 7;
    }
    out.push(integer as u8);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend(value.to_le_bytes());
}

fn length_delimited(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn read(value: impl AsRef<[u8]>) -> Result<Message, Malformed> {
    let mut message = Message::default();
    parse(value.as_ref(), &mut |metric, value| message.note(metric, value))?;
    Ok(message)
}

fn messages() -> impl Strategy<Value = Message> {
    let amount = prop_oneof![Just(0.0), 0.0..2.0f64, 0.0..1e300f64];
    let any = prop_oneof![Just(0.0), -1e9..1e9f64];
    let names = prop::sample::select(PLAIN.map(|(name, _)| name).to_vec());
    let maps = prop::sample::select(MAPS.map(|(name, _)| name).to_vec());
    let plain = prop::collection::btree_map(names, amount, 0..6);
    let maps = prop::collection::btree_map((maps, "[a-zA-Z_./-]{1,12}"), any, 0..8);
    let message = (plain, maps).prop_map(|(plain, maps)| Message { plain, maps });
    message.prop_filter("text has no form for nothing", |message| *message != Message::default())
}

proptest! {
    #[test]
    fn every_form_is_read_as_it_was_written(message in messages(), seed in any::<bool>()) {
        let protobuf = message.protobuf();
        let spread = |object: String| object.replace("\":", if seed { "\" : " } else { "\":" });
        for form in [
            format!("TEXT {}", message.text('=')),
            format!("TEXT {}", message.text(':')),
            message.text('=').replace(',', " , "),
            format!("JSON {}", spread(message.json(seed))),
            message.json(!seed),
            format!("BIN {}", STANDARD.encode(&protobuf)),
            format!("BIN {}", STANDARD_NO_PAD.encode(&protobuf)),
        ] {
            let got = read(&form).map_err(|error| TestCaseError::fail(format!("{error}: {form}")))?;
            prop_assert!(got.is_about(&message), "{got:?} of {form}");
        }
    }

    #[test]
    fn what_is_not_a_report_is_malformed_and_never_worse(
        word in prop::sample::select(vec!["", "TEXT ", "JSON ", "BIN ", "{"]),
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut value = word.as_bytes().to_vec();
        value.extend(&bytes);
        if let Ok(message) = read(&value) {
            prop_assert!(message.plain.values().all(|value| value.is_finite() && *value >= 0.0));
            prop_assert!(message.maps.values().all(|value| value.is_finite()));
        }
        let _ = parse_binary(STANDARD.encode(&bytes).as_bytes(), &mut |_, _| {});
    }

    #[test]
    fn a_damaged_report_never_brings_values_out_of_bounds(
        message in messages(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut protobuf = message.protobuf();
        let at = at.index(protobuf.len());
        if cut { protobuf.truncate(at) } else { protobuf[at] = byte }
        if let Ok(message) = read(format!("BIN {}", STANDARD.encode(&protobuf))) {
            prop_assert!(message.plain.values().all(|value| value.is_finite() && *value >= 0.0));
            prop_assert!(message.maps.iter().all(|((_, key), v)| !key.is_empty() && v.is_finite()));
        }
    }
}

#[test]
fn a_report_out_of_bounds_does_not_count_at_all() {
    let many = vec!["utilization.a=1"; MAX_METRICS + 1].join(",");
    let object = |entries: usize| {
        let entries: Vec<_> = (0..entries).map(|n| format!("\"m{n}\":1")).collect();
        format!("JSON {{\"named_metrics\":{{{}}}}}", entries.join(","))
    };
    assert!(read(object(MAX_METRICS)).is_ok());
    for (value, reason) in [
        (String::new(), Malformed::Value),
        ("TEXT ".into(), Malformed::Value),
        ("TEXT cpu_utilization".into(), Malformed::Value),
        ("TEXT cpu_utilization=".into(), Malformed::Value),
        ("TEXT cpu_utilization=x".into(), Malformed::Value),
        ("TEXT cpu_utilization=NaN".into(), Malformed::Value),
        ("TEXT cpu_utilization=inf".into(), Malformed::Value),
        ("TEXT cpu_utilization=-0.1".into(), Malformed::Value),
        ("TEXT cpu_utilization=0.1,".into(), Malformed::Value),
        ("TEXT cpu_utilization=0.1,cpu_utilization=0.1".into(), Malformed::Duplicate),
        ("TEXT disk_utilization=0.1".into(), Malformed::Name),
        ("TEXT named_metrics.=0.1".into(), Malformed::Name),
        (format!("TEXT named_metrics.{}=1", "x".repeat(MAX_NAME + 1)), Malformed::Name),
        (format!("TEXT {many}"), Malformed::TooLarge),
        (format!("TEXT {}", "x".repeat(MAX_LENGTH + 1)), Malformed::TooLarge),
        (object(MAX_METRICS + 1), Malformed::TooLarge),
        ("JSON {\"cpu_utilization\":-1}".into(), Malformed::Value),
        ("JSON {\"cpu_utilization\":\"NaN\"}".into(), Malformed::Value),
        ("JSON {\"cpu_utilization\":\"x\"}".into(), Malformed::Json),
        ("JSON {\"cpu_utilization\":1e999}".into(), Malformed::Json),
        ("JSON {\"cpu_utilization\":true}".into(), Malformed::Json),
        ("JSON {\"named_metrics\":{\"\":1}}".into(), Malformed::Name),
        ("JSON {} {}".into(), Malformed::Json),
        ("JSON []".into(), Malformed::Json),
        ("JSON {".into(), Malformed::Json),
        ("BIN !".into(), Malformed::Base64),
        // A group, a field 0, a double that is a varint, a cut off double.
        (format!("BIN {}", STANDARD.encode([0x0b, 0x0c])), Malformed::Protobuf),
        (format!("BIN {}", STANDARD.encode([0x00, 0x01])), Malformed::Protobuf),
        (format!("BIN {}", STANDARD.encode([0x08, 0x01])), Malformed::Protobuf),
        (format!("BIN {}", STANDARD.encode([0x09, 0x01])), Malformed::Protobuf),
    ] {
        assert_eq!(read(&value), Err(reason), "{value}");
    }
}

#[test]
fn null_and_strings_are_numbers_as_protobuf_writes_them() {
    let got = read(r#"{"cpuUtilization":"0.25","eps":null,"rps":"7","namedMetrics":null}"#);
    let plain = BTreeMap::from([("cpu_utilization", 0.25), ("rps", 7.0)]);
    assert_eq!(got, Ok(Message { plain, maps: BTreeMap::new() }));
}

fn digest(text: &str, metrics: &[&str]) -> LoadReport {
    let metrics: Vec<Arc<str>> = metrics.iter().map(|name| Arc::from(*name)).collect();
    let mut digest = Digest::new(&metrics);
    parse(text.as_bytes(), &mut |metric, value| digest.note(metric, value)).expect("a report");
    digest.finish().expect("nothing absurd")
}

#[test]
fn absurd_numbers_are_malformed_where_they_would_count_and_of_no_interest_elsewhere() {
    let read = |text: &str, metrics: &[Arc<str>]| {
        let value = HeaderValue::from_str(text).expect("a value");
        find(&HeaderMap::from_iter([(FIELD, value)]), metrics).expect("a report")
    };
    for text in ["cpu_utilization=1e7", "rps_fractional=1e10", "eps=1e300", "named_metrics.q=1e7"] {
        assert_eq!(read(text, &["q".into()]), Err(Malformed::Value), "{text}");
    }
    assert!(read("cpu_utilization=300,rps_fractional=1e8", &[]).is_ok());
    assert!(read("named_metrics.bytes=1e12,request_cost.bytes=1e12", &[]).is_ok());
}

#[test]
fn the_applications_own_utilisation_comes_before_named_metrics_and_those_before_the_processor() {
    let text = "cpu_utilization=0.1,named_metrics.queue=0.4,utilization.db=0.6,mem_utilization=0.5";
    let of = |text: &str, metrics: &[&str]| digest(text, metrics).utilization;
    assert_eq!(of(text, &[]), 0.1);
    assert_eq!(of(text, &["absent"]), 0.1);
    assert_eq!(of(text, &["queue"]), 0.4);
    assert_eq!(of(text, &["named_metrics.queue", "utilization.db"]), 0.6);
    assert_eq!(of(text, &["mem_utilization"]), 0.5);
    assert_eq!(of(&format!("{text},application_utilization=0.2"), &["queue"]), 0.2);
    assert_eq!(of(&format!("{text},application_utilization=0"), &["queue"]), 0.4);
    let rates = digest("rps=3,rps_fractional=3.5,eps=0.5", &[]);
    assert_eq!((rates.qps, rates.eps), (3.5, 0.5));
    assert_eq!(digest("rps=3", &[]).qps, 3.0);
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(*name, HeaderValue::from_static(value));
    }
    fields
}

#[test]
fn a_report_is_found_in_all_its_forms() {
    let utilization = |lines: &[(&'static str, &'static str)]| {
        find(&fields(lines), &[]).map(|report| report.map(|report| report.utilization))
    };
    let text = ("endpoint-load-metrics", "TEXT cpu_utilization=0.3");
    let binary = ("endpoint-load-metrics-bin", "CQAAAAAAAOA/");
    let json = ("endpoint-load-metrics-json", "{\"eps\": 1}");
    assert_eq!(utilization(&[("x-kept", "1"), text]), Some(Ok(0.3)));
    assert_eq!(utilization(&[binary]), Some(Ok(0.5)));
    assert_eq!(utilization(&[json]), Some(Ok(0.0)));
    assert_eq!(utilization(&[("x-kept", "1"), ("endpoint-load", "1")]), None);
    for several in [[text, text], [binary, json]] {
        assert_eq!(utilization(&several), Some(Err(Malformed::Several)));
    }
}

#[test]
fn reports_and_their_announcement_are_taken_out_and_nothing_else() {
    let mut head = fields(&[
        ("endpoint-load-metrics", "TEXT eps=1"),
        ("endpoint-load-metrics", "what?"),
        ("endpoint-load-metrics-bin", "CQAAAAAAAOA/"),
        ("endpoint-load-metrics-json", "{}"),
        ("endpoint-load-metrics-jsons", "{}"),
        ("trailer", "x-sum, Endpoint-Load-Metrics-Bin"),
    ]);
    assert_eq!(head.keys().filter(|name| is_report(name)).count(), 3);
    strip(&mut head);
    forget_announcement(&mut head);
    assert_eq!(head, fields(&[("endpoint-load-metrics-jsons", "{}"), ("trailer", "x-sum")]));
    let mut nothing_else = fields(&[("trailer", "endpoint-load-metrics")]);
    forget_announcement(&mut nothing_else);
    assert!(nothing_else.is_empty());
}
