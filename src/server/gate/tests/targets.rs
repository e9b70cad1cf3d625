//! Request lines, targets, hosts, and what a request may expect or ask to switch to.

use super::super::{Gate, GateLimits, GateReason as Why, Phase, Then, Verdict};
use super::{accepts, chunked, get, get_target, judge, post, rejects};

#[test]
fn a_request_line_is_three_words_with_one_space_between() {
    let lines: [(&[u8], Why); 22] = [
        (b"GET  / HTTP/1.1", Why::BadTarget),
        (b"GET /  HTTP/1.1", Why::BadVersion),
        (b"GET / HTTP/1.1 ", Why::BadVersion),
        (b"GET / HTTP/1.11", Why::BadVersion),
        (b"GET\t/ HTTP/1.1", Why::BadMethod),
        (b"GET /\tHTTP/1.1", Why::BadTarget),
        (b" GET / HTTP/1.1", Why::BadMethod),
        (b"GET / x HTTP/1.1", Why::BadVersion),
        (b"GET / HTTP/1.2", Why::UnsupportedVersion),
        (b"GET / HTTP/0.9", Why::UnsupportedVersion),
        (b"GET / HTTP/2.0", Why::UnsupportedVersion),
        (b"GET / HTTP/1", Why::BadVersion),
        (b"GET / http/1.1", Why::BadVersion),
        (b"GET / HTTP/x.1", Why::BadVersion),
        (b"GET /", Why::BadVersion),
        (b"GET", Why::BadMethod),
        (b"GET /\nHTTP/1.1", Why::BareLf),
        (b"CONNECT t:443 HTTP/1.1", Why::Connect),
        (b"CONNECT / HTTP/1.1", Why::Connect),
        (b"G=\":<>\" / HTTP/1.1", Why::BadMethod),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Why::BadMethod),
        (b"PRI * HTTP/2.0", Why::BadTarget),
    ];
    for (line, why) in lines {
        rejects("A17/A18", &[line, b"\r\nHost: t\r\n\r\n"].concat(), why);
    }
    let long = [&vec![b'M'; 8192][..], b" / HTTP/1.1\r\nHost: t\r\n\r\n"].concat();
    rejects("A18", &long, Why::MethodTooLong);
    for method in [&b"get"[..], b"TRACE", b"BASELINE-CONTROL", &[b'M'; 32]] {
        accepts("A18", &[method, b" / HTTP/1.1\r\nHost: t\r\n\r\n"].concat(), 1);
    }
}

#[test]
fn each_reason_answers_with_the_status_that_says_most() {
    let rows: [(&[u8], u16); 8] = [
        (b"CONNECT t:443 HTTP/1.1\r\n", 405),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"GET / HTTP/1.1\r\nExpect: y\r\n", 417),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        (&[b'M'; 33], 501),
        (&[&b"GET /"[..], &[b'a'; 8192]].concat(), 414),
        (&[&b"GET / HTTP/1.1\r\n"[..], &b"a:b\r\n".repeat(101)].concat(), 431),
        (b"GET / HTTP/1.1\r\nHost : t\r\n", 400),
    ];
    for (bytes, status) in rows {
        let Then::Reject(reject) = Gate::new(GateLimits::default()).inspect(bytes).then else {
            panic!("{} passed", bytes.escape_ascii());
        };
        assert_eq!(reject.status(), status, "{}", bytes.escape_ascii());
    }
}

#[test]
fn http_1_1_has_exactly_one_host() {
    rejects("B1", b"GET / HTTP/1.1\r\n\r\n", Why::NoHost);
    rejects("B1", &get(b"Host: t\r\n"), Why::RepeatedHost);
    rejects("B1", &get(b"hOST: u\r\n"), Why::RepeatedHost);
    accepts("B1", b"GET / HTTP/1.0\r\n\r\n", 1);
    accepts("B1", b"GET / HTTP/1.0\r\nHost: t\r\n\r\n", 1);
    rejects("B1", b"GET / HTTP/1.0\r\nHost: t\r\nHost: t\r\n\r\n", Why::RepeatedHost);
}

#[test]
fn a_host_is_a_name_or_address_with_an_optional_port() {
    let label = "l".repeat(64);
    let name = "a.".repeat(127);
    let bad: [&str; 35] = [
        "",
        "a b",
        "a,b",
        "a/b",
        "u@a",
        "a:0",
        "a:99999",
        "a:65536",
        "[::1",
        "a..",
        "..",
        ".",
        ".a",
        "a..b",
        "a:",
        "a:080",
        "a:+80",
        "a:80:80",
        "a:8o",
        "::1",
        "[]",
        "[::1]x",
        "[::1]:",
        "[::g]",
        "[fe80::1%25eth0]",
        "[1.2.3.4]",
        "[v1.a]",
        "a%41",
        "a\\b",
        "a#b",
        "a?b",
        "*.a",
        &label,
        &format!("{name}a"),
        &format!("{}bb", &name[..252]),
    ];
    for host in bad {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        rejects("B2", bytes.as_bytes(), Why::BadHost);
    }
    rejects("B2", b"GET / HTTP/1.1\r\nHost: \xe4.example\r\n\r\n", Why::BadHost);
    let good = [
        "a",
        "EXAMPLE.com",
        "example.com.",
        "a:1",
        "a.:65535",
        "1.2.3.4:80",
        "[::1]",
        "[::1]:8080",
        "[::FFFF:1.2.3.4]",
        "a_b-c.d",
        &label[1..],
        &name[..253],
        &name,
    ];
    for host in good {
        accepts("B2", format!("GET / HTTP/1.1\r\nHost: \t{host} \r\n\r\n").as_bytes(), 1);
    }
}

#[test]
fn an_absolute_target_names_the_same_host_as_host() {
    let rows: [(&str, &str, Option<Why>); 14] = [
        ("http://a/", "b", Some(Why::HostMismatch)),
        ("http://a/", "a", None),
        ("http://A/x?y", "a", None),
        ("http://a", "a:80", None),
        ("HTTPS://a:443?q", "a", None),
        ("https://a", "a:80", Some(Why::HostMismatch)),
        ("http://a:8080/", "a", Some(Why::HostMismatch)),
        ("http://[::1]:80/", "[::1]", None),
        ("http://a./", "a", Some(Why::HostMismatch)),
        ("http://u:p@a/", "a", Some(Why::BadHost)),
        ("http://a@b/", "a", Some(Why::BadHost)),
        ("http:///x", "a", Some(Why::BadHost)),
        ("http://a:0/", "a", Some(Why::BadHost)),
        ("ftp://a/", "a", Some(Why::BadTarget)),
    ];
    for (target, host, why) in rows {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        match why {
            Some(why) => rejects("B3", bytes.as_bytes(), why),
            None => accepts("B3", bytes.as_bytes(), 1),
        }
    }
    accepts("B3", b"GET http://a/ HTTP/1.0\r\n\r\n", 1);
    rejects("B3", b"GET http://a/ HTTP/1.1\r\n\r\n", Why::NoHost);
}

#[test]
fn a_target_has_the_form_its_method_takes() {
    for target in [&b"a:80"[..], b"*", b"admin", b"?x", b"", b"http:/t/", b"http:t", b"//"] {
        match target {
            b"//" => accepts("B4", &get_target(target), 1),
            _ => rejects("B4", &get_target(target), Why::BadTarget),
        }
    }
    rejects("B4", &get_target(b"http://u:p@t/"), Why::BadHost);
    accepts("B4", b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n", 1);
    rejects("B4", b"OPTIONS ** HTTP/1.1\r\nHost: t\r\n\r\n", Why::BadTarget);
    accepts("B4", &get_target(b"//evil/x"), 1);
}

#[test]
fn a_target_has_no_fragment_no_control_and_no_high_byte() {
    rejects("B5", &get_target(b"/admin#/x"), Why::BadTarget);
    rejects("B5", &get_target(b"/a?b#c"), Why::BadTarget);
    for byte in (0..=0xff_u8).filter(|byte| !matches!(byte, b' ' | b'\r' | b'\n')) {
        let refused = !(b' '..0x7f).contains(&byte) || b"#\\<>`".contains(&byte);
        for (target, refused) in [
            ([b"/a", &[byte][..], b"b"].concat(), refused),
            // The parser above takes no `"` in a query.
            ([b"/a?a", &[byte][..], b"b"].concat(), refused || byte == b'"'),
        ] {
            match refused {
                true => rejects("B6", &get_target(&target), Why::BadTarget),
                false => accepts("B6", &get_target(&target), 1),
            }
        }
    }
}

#[test]
fn heads_targets_and_field_counts_have_limits() {
    let target = |size: usize| get_target(&[b"/", &vec![b'a'; size - 1][..]].concat());
    accepts("B6", &target(8192), 1);
    rejects("B6", &target(8193), Why::TargetTooLong);
    rejects("B6", &target(70_000), Why::TargetTooLong);
    accepts("F5", &get(&b"A: b\r\n".repeat(99)), 1);
    rejects("F5", &get(&b"A: b\r\n".repeat(100)), Why::TooManyHeaders);
    let head = |size: usize| {
        let rest = get(b"A: \r\n").len();
        get(&[b"A: ", &vec![b'a'; size - rest][..], b"\r\n"].concat())
    };
    accepts("F5", &[b"\r\n", &head(32 * 1024)[..]].concat(), 1);
    rejects("F5", &head(32 * 1024 + 1), Why::HeadTooLarge);
    let tiny = GateLimits { head_size: 40, header_count: 1, target_size: 5 };
    let line = b"GET /1234 HTTP/1.1\r\n";
    let fits = [&line[..], b"Host: 3456789012\r\n\r\n"].concat();
    assert_eq!(fits.len(), 40);
    assert_eq!(judge(&fits, &[], tiny).0.heads, 1);
}

#[test]
fn the_only_expectation_is_one_100_continue() {
    let once = b"Expect: 100-Continue\r\nContent-Length: 1\r\n";
    accepts("H4", &post(once, b"x"), 1);
    for value in ["y", "100-continue, y", "", "100-continue;x", "100"] {
        let line = format!("Expect: {value}\r\n");
        rejects("H4", &get(line.as_bytes()), Why::BadExpectation);
    }
    let twice = b"Expect: 100-continue\r\nExpect: 100-continue\r\n";
    rejects("H4", &get(twice), Why::BadExpectation);
}

#[test]
fn after_an_upgrade_request_nothing_passes_until_the_answer() {
    let upgrade = get(b"Connection: Upgrade\r\nUpgrade: foo\r\n");
    let smuggled = get(b"");
    let bytes = [&upgrade[..], &smuggled].concat();
    let mut gate = Gate::new(GateLimits::default());
    let verdict = gate.inspect(&bytes);
    assert_eq!(verdict, Verdict { pass: upgrade.len(), then: Then::Hold });
    assert_eq!(gate.phase(), Phase::AwaitingUpgrade);
    let held = Verdict { pass: 0, then: Then::Hold };
    assert_eq!(gate.inspect(&smuggled), held, "H1: still held");
    gate.resume_http();
    assert_eq!(gate.phase(), Phase::Idle);
    let verdict = gate.inspect(&smuggled);
    assert_eq!(verdict, Verdict { pass: smuggled.len(), then: Then::More });
    assert_eq!(gate.heads(), 2, "H1: the second request was judged as one");
}

#[test]
fn a_tunnel_passes_everything_but_opens_only_when_asked_for() {
    let mut gate = Gate::new(GateLimits::default());
    gate.inspect(&get(b"Upgrade: websocket\r\nConnection: keep-alive, UPGRADE\r\n"));
    gate.enter_tunnel();
    assert_eq!(gate.phase(), Phase::Tunnel);
    assert_eq!(gate.inspect(b"\0\n\xff"), Verdict { pass: 3, then: Then::More });

    let mut gate = Gate::new(GateLimits::default());
    gate.inspect(&get(b""));
    gate.enter_tunnel();
    assert!(matches!(gate.inspect(b"\0\n\xff").then, Then::Reject(_)));
}

#[test]
fn an_upgrade_waits_for_the_end_of_its_body() {
    let fields = b"Transfer-Encoding: chunked\r\nConnection: upgrade\r\nUpgrade: x\r\n";
    let bytes = post(fields, b"1\r\nx\r\n0\r\n\r\n");
    let mut gate = Gate::new(GateLimits::default());
    let (head, body) = bytes.split_at(bytes.len() - 5);
    assert_eq!(gate.inspect(head).then, Then::More);
    assert_eq!(gate.phase(), Phase::Body);
    assert_eq!(gate.inspect(body), Verdict { pass: 5, then: Then::Hold });
}

#[test]
fn an_upgrade_without_its_connection_option_or_in_http_1_0_is_none() {
    let requests = [
        get(b"Upgrade: websocket\r\n"),
        get(b"Connection: upgrade\r\n"),
        get(b"Connection: upgraded\r\nUpgrade: websocket\r\n"),
        b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec(),
    ];
    for request in requests {
        let mut gate = Gate::new(GateLimits::default());
        let verdict = gate.inspect(&request);
        assert_eq!(verdict.then, Then::More, "{}", request.escape_ascii());
    }
}

#[test]
fn trailers_are_field_lines_that_carry_no_framing() {
    accepts("D8", &chunked(b"0\r\nX-Sum: 1\r\ngrpc-status: 0\r\n\r\n"), 1);
    let bad: [(&[u8], Why); 9] = [
        (b"Content-Length: 1\r\n", Why::BadTrailer),
        (b"transfer_encoding: chunked\r\n", Why::BadTrailer),
        (b"HOST: t\r\n", Why::BadTrailer),
        (b"Authorization: x\r\n", Why::BadTrailer),
        (b"X : v\r\n", Why::SpaceBeforeColon),
        (b"X: a\r\n b\r\n", Why::ObsFold),
        (b"X: a\n", Why::BareLf),
        (b"X: \0\r\n", Why::BadHeaderValue),
        (&[&b"X: "[..], &[b'a'; 8192], b"\r\n"].concat(), Why::TrailersTooLarge),
    ];
    for (trailers, why) in bad {
        rejects("D8", &chunked(&[b"0\r\n", trailers, b"\r\n"].concat()), why);
    }
    let many = b"A: b\r\n".repeat(33);
    rejects("D8", &chunked(&[b"0\r\n", &many[..], b"\r\n"].concat()), Why::TrailersTooLarge);
}
