//! Requests with more than one reading: answered 400 (or a code that says more), the connection
//! closed, counted by reason, and the back end sees nothing of them.

use crate::harness::*;

/// What the tests below send: a name, the bytes, the status, the reason counted.
struct Attack(&'static str, Vec<u8>, u16, &'static str);

fn attack(name: &'static str, bytes: &str, status: u16, reason: &'static str) -> Attack {
    Attack(name, bytes.as_bytes().to_vec(), status, reason)
}

/// A POST with these lines after its Host.
fn post(name: &'static str, lines: &str, status: u16, reason: &'static str) -> Attack {
    attack(name, &format!("POST / HTTP/1.1\r\nHost: t\r\n{lines}"), status, reason)
}

fn framing() -> Vec<Attack> {
    let te = "Transfer-Encoding: chunked\r\n";
    vec![
        post(
            "CL.TE",
            &format!("Content-Length: 6\r\n{te}\r\n0\r\n\r\nX"),
            400,
            "length_with_encoding",
        ),
        post(
            "TE.CL",
            &format!("{te}Content-Length: 4\r\n\r\n5c\r\nGPOST"),
            400,
            "length_with_encoding",
        ),
        post(
            "TE list ends otherwise",
            "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            400,
            "bad_encoding",
        ),
        post("TE misspelt", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "bad_encoding"),
        post("TE quoted", "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400, "bad_encoding"),
        post(
            "TE parameter",
            "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
            400,
            "bad_encoding",
        ),
        post(
            "TE vertical tab",
            "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            400,
            "bad_header_value",
        ),
        post(
            "TE identity",
            "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
            501,
            "unknown_encoding",
        ),
        post(
            "TE gzip",
            "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
            "unknown_encoding",
        ),
        post(
            "TE empty member",
            "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
            400,
            "bad_encoding",
        ),
        post(
            "TE twice in one",
            "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            400,
            "bad_encoding",
        ),
        post("TE twice", &format!("{te}{te}\r\n0\r\n\r\n"), 400, "bad_encoding"),
        post("TE space", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, "space_before_colon"),
        post("TE behind LF", "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bare_lf"),
        post("TE alias", "Transfer_Encoding: chunked\r\n\r\n", 400, "framing_alias"),
        post("TE split by CR", "Transfer\r-Encoding: chunked\r\n\r\n", 400, ""),
        attack(
            "TE in 1.0",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "bad_encoding",
        ),
        post(
            "two CL",
            "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            400,
            "repeated_length",
        ),
        post("CL list", "Content-Length: 5, 6\r\n\r\nhello", 400, "bad_length"),
        post(
            "equal CL",
            "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            400,
            "repeated_length",
        ),
        post("equal CL list", "Content-Length: 5, 5\r\n\r\nhello", 400, "bad_length"),
        post("CL empty", "Content-Length: \r\n\r\nhello", 400, "bad_length"),
        post("CL plus", "Content-Length: +5\r\n\r\nhello", 400, "bad_length"),
        post("CL minus", "Content-Length: -0\r\n\r\nhello", 400, "bad_length"),
        post("CL hex", "Content-Length: 0x5\r\n\r\nhello", 400, "bad_length"),
        post("CL underscore", "Content-Length: 1_0\r\n\r\nhello", 400, "bad_length"),
        post("CL space inside", "Content-Length: 5 5\r\n\r\nhello", 400, "bad_length"),
        post("CL overflow", "Content-Length: 99999999999999999999\r\n\r\nhello", 400, "bad_length"),
        post("CL alias", "Content_Length: 5\r\n\r\nhello", 400, "framing_alias"),
        attack(
            "1.0 GET with body",
            "GET / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
            400,
            "unexpected_body",
        ),
    ]
}

fn lines() -> Vec<Attack> {
    let get = "GET / HTTP/1.1\r\nHost: t\r\n";
    let row = |name, lines: &str, reason| attack(name, &format!("{get}{lines}\r\n"), 400, reason);
    vec![
        attack("LF only", "GET / HTTP/1.1\nHost: t\n\n", 400, "bare_lf"),
        attack("LF in the middle", "GET / HTTP/1.1\r\nHost: t\n\r\n", 400, "bare_lf"),
        attack("LF before CRLF", "GET / HTTP/1.1\r\nHost: t\r\n\n", 400, "bare_lf"),
        row("CR in a value", "X: a\rb\r\n", "bare_cr"),
        row("NUL in a value", "X: a\0b\r\n", "bad_header_value"),
        row("control in a value", "X: a\x01b\r\n", "bad_header_value"),
        row("DEL in a value", "X: a\x7fb\r\n", "bad_header_value"),
        row("obs-fold", "X: a\r\n b\r\n", "obs_fold"),
        row("tab fold", "X: a\r\n\tb\r\n", "obs_fold"),
        row("empty name", ": v\r\n", "bad_header_name"),
        row("no colon", "nocolon\r\n", "bad_header_name"),
        row("space before colon", "X : v\r\n", "space_before_colon"),
        row("tab before colon", "X\t: v\r\n", "space_before_colon"),
        row("odd name", "X(y): v\r\n", "bad_header_name"),
        attack("first line folded", "GET / HTTP/1.1\r\n Host: t\r\n\r\n", 400, "obs_fold"),
        attack("two spaces", "GET  / HTTP/1.1\r\nHost: t\r\n\r\n", 400, "bad_target"),
        attack("tab in request line", "GET\t/\tHTTP/1.1\r\nHost: t\r\n\r\n", 400, "bad_method"),
        attack("HTTP/1.2", "GET / HTTP/1.2\r\nHost: t\r\n\r\n", 505, "unsupported_version"),
        attack("HTTP/2.0", "GET / HTTP/2.0\r\nHost: t\r\n\r\n", 505, "unsupported_version"),
        attack("HTTP/0.9", "GET /\r\n", 400, "bad_version"),
        attack("0.9 with more", "GET /\nHTTP/1.1\r\nHost: t\r\n\r\n", 400, "bare_lf"),
        attack("bad method", "G=\":<>\" / HTTP/1.1\r\nHost: t\r\n\r\n", 400, "bad_method"),
        attack("empty lines", &format!("{}{get}\r\n", "\r\n".repeat(10)), 400, "empty_lines"),
    ]
}

fn hosts_and_targets() -> Vec<Attack> {
    let host = |name, host: &str| {
        attack(name, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400, "bad_host")
    };
    let target = |name, target: &str| {
        attack(name, &format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n"), 400, "bad_target")
    };
    vec![
        attack("no Host", "GET / HTTP/1.1\r\n\r\n", 400, "no_host"),
        attack("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "repeated_host"),
        attack("equal Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "repeated_host"),
        host("space in Host", "a b"),
        host("comma in Host", "a,b"),
        host("slash in Host", "a/b"),
        host("userinfo in Host", "u@a"),
        host("port too large", "a:99999"),
        host("open bracket", "[::1"),
        host("empty label", "a..b"),
        attack(
            "absolute target and other Host",
            "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
            400,
            "host_mismatch",
        ),
        attack("userinfo in target", "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
        target("authority form", "a:80"),
        target("word", "admin"),
        target("star", "*"),
        target("query only", "?x"),
        target("fragment", "/admin#/x"),
        target("control byte", "/a\x01b"),
    ]
}

fn chunks() -> Vec<Attack> {
    let row = |name, chunks: &str, reason| {
        post(name, &format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"), 400, reason)
    };
    vec![
        row("hex prefix", "0x5\r\nhello\r\n0\r\n\r\n", "bad_chunk"),
        row("plus", "+5\r\nhello\r\n0\r\n\r\n", "bad_chunk"),
        row("minus", "-0\r\n\r\n", "bad_chunk"),
        row("space before", " 5\r\nhello\r\n0\r\n\r\n", "bad_chunk"),
        row("underscore", "5_\r\nhello\r\n0\r\n\r\n", "bad_chunk"),
        row("empty size", "\r\nhello\r\n0\r\n\r\n", "bad_chunk"),
        row("overflow", "10000000000000005\r\nhello\r\n0\r\n\r\n", "bad_chunk"),
        row("LF after size", "5\nhello\r\n0\r\n\r\n", ""),
        row("extra CR", "5\r\r\nhello\r\n0\r\n\r\n", ""),
        row("LF in extension", "5;\nhello\r\n0\r\n\r\n", ""),
        row("CRLF in quotes", "5;a=\"\r\nhello\r\n0\r\n\r\n", "bad_chunk_extension"),
        row("NUL in extension", "5;\0e\r\nhello\r\n0\r\n\r\n", "bad_chunk_extension"),
        row("bytes after data", "5\r\nhelloXX0\r\n\r\n", "bad_chunk"),
        row("LF after data", "5\r\nhello\n0\r\n\r\n", ""),
        row("long size line", &format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(64)), "bad_chunk"),
        row("framing in trailers", "0\r\nContent-Length: 5\r\n\r\n", "bad_trailer"),
        row("host in trailers", "0\r\nHost: evil\r\n\r\n", "bad_trailer"),
    ]
}

async fn refuse(attacks: Vec<Attack>) {
    let app = Backend::saying("reached").await;
    let proxy = Proxy::to(app.address()).await;
    let mut faults = Vec::new();
    for Attack(name, bytes, status, reason) in attacks {
        let before = proxy.metrics().await;
        let mut client = Client::connect(proxy.web()).await;
        client.send(&bytes).await;
        match client.try_response(false).await {
            Ok(response) if response.status == status => {
                if !response.headers.joined("connection").eq_ignore_ascii_case("close") {
                    faults.push(format!("{name}: no Connection: close in {response}"));
                }
            }
            Ok(response) => faults.push(format!("{name}: {response}")),
            Err(broken) => faults.push(format!("{name}: {broken:?}")),
        }
        match client.some().await {
            Ok(rest) if rest.is_empty() => {}
            rest => faults.push(format!("{name}: not closed, {rest:?}")),
        }
        let labels: &[(&str, &str)] = if reason.is_empty() {
            &[("listener", "web")]
        } else {
            &[("listener", "web"), ("reason", reason)]
        };
        let count = |metrics: &Metrics| metrics.sum("portcullis_rejected_requests_total", labels);
        let after = proxy.metrics().await;
        if (count(&after) - count(&before) - 1.0).abs() > f64::EPSILON {
            faults.push(format!("{name}: not counted once under {reason:?}"));
        }
    }
    let heads = app.requests();
    if !heads.is_empty() || app.bytes() > 0 {
        let received = app.received();
        faults.push(format!("the back end saw {:?}", String::from_utf8_lossy(&received)));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    // What is good still passes.
    assert_eq!(get(proxy.web(), "t", "/").await.text(), "reached");
}

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    refuse(framing()).await;
}

#[tokio::test]
async fn malformed_lines_are_refused() {
    refuse(lines()).await;
}

#[tokio::test]
async fn bad_hosts_and_targets_are_refused() {
    refuse(hosts_and_targets()).await;
}

#[tokio::test]
async fn malformed_chunks_in_the_same_segment_are_refused_before_the_back_end_sees_a_byte() {
    refuse(chunks()).await;
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let long = "x".repeat(40_000);
    let many: String = (0..101).map(|n| format!("X-{n}: v\r\n")).collect();
    refuse(vec![
        attack(
            "long target",
            &format!("GET /{long} HTTP/1.1\r\nHost: t\r\n\r\n"),
            414,
            "target_too_long",
        ),
        attack(
            "long head",
            &format!("GET / HTTP/1.1\r\nHost: t\r\nX: {long}\r\n\r\n"),
            431,
            "head_too_large",
        ),
        attack(
            "many fields",
            &format!("GET / HTTP/1.1\r\nHost: t\r\n{many}\r\n"),
            431,
            "too_many_headers",
        ),
        attack(
            "long method",
            &format!("{} / HTTP/1.1\r\nHost: t\r\n\r\n", "M".repeat(8000)),
            501,
            "method_too_long",
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_same_bytes_are_refused_when_they_come_one_at_a_time() {
    let app = Backend::saying("reached").await;
    let proxy = Proxy::to(app.address()).await;
    for attack in [&framing()[0], &framing()[12], &lines()[0], &hosts_and_targets()[1]] {
        let Attack(name, bytes, status, _) = attack;
        let mut client = Client::connect(proxy.web()).await;
        for byte in bytes {
            // The proxy closes as soon as it knows; what is sent after that is lost.
            if client.try_send([*byte]).await.is_err() {
                break;
            }
        }
        // Bytes sent after the close may reset the connection before the answer is read.
        match client.try_response(false).await {
            Ok(response) => assert_eq!(response.status, *status, "{name}: {response}"),
            Err(Broken::Closed) => {}
            Err(broken) => panic!("{name}: {broken:?}"),
        }
    }
    assert_eq!(app.bytes(), 0);
}

#[tokio::test]
async fn a_body_that_breaks_its_framing_on_the_way_breaks_off_at_the_back_end() {
    let app = Backend::saying("reached").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    eventually(STEP, "the first chunk arrives", async || app.bytes() > 0).await;
    client.send("0x0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n").await;
    match client.try_response(false).await {
        Ok(response) => assert_eq!(response.status, 400, "{response}"),
        Err(Broken::Closed) => {}
        Err(broken) => panic!("{broken:?}"),
    }
    eventually(STEP, "the back end's connection is closed", async || app.open() == 0).await;
    let received = String::from_utf8_lossy(&app.received()).into_owned();
    assert!(!received.contains("\r\n0\r\n"), "no last chunk in {received:?}");
    assert!(!received.contains("smuggled"), "{received:?}");
}

#[tokio::test]
async fn two_empty_lines_before_a_request_are_tolerated() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "fine");
}
