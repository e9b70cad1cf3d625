//! Lines as those who read nginx's expect them.

use std::net::{Ipv4Addr, SocketAddr};

use http::{Method, Version};
use proptest::prelude::*;

use super::super::record::RecordText;
use super::*;
use crate::ir::AccessLogFormat;

fn record(target: (&[u8], Option<&[u8]>), agent: Option<&[u8]>) -> Record {
    let text = RecordText {
        host: b"shop.example",
        path: target.0,
        query: target.1,
        request_id: b"0123abcd",
        user_agent: agent,
        referer: None,
    };
    // 2026-11-22T17:27:32.123Z
    let start = UNIX_EPOCH + Duration::from_millis(1_795_368_452_123);
    let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 51000));
    Record::new(start, peer, "http".into(), Method::GET, Version::HTTP_11, &text)
}

fn forwarded() -> Record {
    let mut record = record((b"/cart", Some(b"item=7")), Some(b"curl/8"));
    record.status = 200;
    record.request_bytes = 12;
    record.response_bytes = 345;
    record.duration = Duration::from_micros(1_234_567);
    record.route = Some("shop/front/shop.example/cart".into());
    record.upstream = Some("shop/cart:80@x".into());
    record.endpoint = "10.0.0.5:8080".parse().ok();
    record.connect = Some(Duration::from_millis(2));
    record.upstream_head = Some(Duration::from_millis(700));
    record.upstream_rest = 500;
    record
}

fn line(format: &str, json: bool, record: &Record) -> String {
    let mut out = Vec::new();
    NginxFormat::parse(format, json).write(record, &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn the_line_of_ingress_nginx_is_the_known_one() {
    let AccessLogFormat::Nginx { format, json } = AccessLogFormat::ingress_nginx() else {
        panic!("nginx's language")
    };
    assert!(NginxFormat::parse(&format, json).unknown().is_empty());
    assert_eq!(
        line(&format, json, &forwarded()),
        "192.0.2.7 - - [22/Nov/2026:17:27:32 +0000] \"GET /cart?item=7 HTTP/1.1\" 200 345 \"-\" \
         \"curl/8\" 12 1.234 [shop-cart-80] [] 10.0.0.5:8080 345 1.200 200 0123abcd"
    );
    let mut refused = record((b"/", None), None);
    refused.status = 404;
    assert_eq!(
        line(&format, json, &refused),
        "192.0.2.7 - - [22/Nov/2026:17:27:32 +0000] \"GET / HTTP/1.1\" 404 0 \"-\" \"-\" 0 0.000 \
         [-] [] - - - - 0123abcd"
    );
}

#[test]
fn variables_in_json_stand_in_the_quotes_of_the_format() {
    let format = r#"{"time":"$time_iso8601","at":$msec,"request":"$request","agent":"$http_user_agent","user":"$remote_user","status":$status,"ns":"$namespace","ingress":"${ingress_name}","service":"$service_name:$service_port","connect":"$upstream_connect_time","x":"$http_x","cost":"5$"}"#;
    let mut record = forwarded();
    record.user = Some("a \"b\"".into());
    let value: serde_json::Value = serde_json::from_str(&line(format, true, &record)).unwrap();
    assert_eq!(value["time"], "2026-11-22T17:27:32+00:00");
    assert_eq!(value["at"], 1_795_368_452.123);
    assert_eq!(value["request"], "GET /cart?item=7 HTTP/1.1");
    assert_eq!((&value["user"], &value["status"]), (&"a \"b\"".into(), &200.into()));
    assert_eq!((&value["ns"], &value["ingress"]), (&"shop".into(), &"front".into()));
    assert_eq!((&value["service"], &value["connect"]), (&"cart:80".into(), &"0.002".into()));
    assert_eq!((&value["x"], &value["cost"]), (&"".into(), &"5$".into()));
    let format = NginxFormat::parse(format, true);
    assert_eq!(format.unknown(), ["http_x"]);
}

proptest! {
    #[test]
    fn a_record_is_one_harmless_line_and_json_stays_json(
        path in any::<Vec<u8>>(), query in any::<Option<Vec<u8>>>(), agent in any::<Option<Vec<u8>>>()
    ) {
        let record = record((&path, query.as_deref()), agent.as_deref());
        let format = r#"{"uri":"$request_uri","agent":"$http_user_agent","args":"$args"}"#;
        let text = line(format, true, &record);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        prop_assert!(value.is_object());
        let text = line("$request \"$http_user_agent\" $args", false, &record);
        prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
    }

    #[test]
    fn any_text_is_a_format(text in ".{0,60}") {
        let line = line(&text, false, &forwarded());
        prop_assert!(!line.contains('\n'));
    }
}
