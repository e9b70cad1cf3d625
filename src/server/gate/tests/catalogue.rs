//! Framing attacks: every row must be rejected, or read in the one way given.

use super::super::GateReason as Why;
use super::{Outcome, accepts, chunked, get, outcome, post, rejects};

#[test]
fn a_length_beside_an_encoding_is_rejected_in_either_order() {
    rejects(
        "A1",
        &post(b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nX"),
        Why::LengthWithEncoding,
    );
    rejects(
        "A2",
        &post(
            b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            b"5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n",
        ),
        Why::LengthWithEncoding,
    );
}

#[test]
fn any_transfer_encoding_but_one_chunked_is_rejected() {
    let rows: [(&[u8], Why); 17] = [
        (b"chunked, identity", Why::BadEncoding),
        (b"xchunked", Why::BadEncoding),
        (b"\"chunked\"", Why::BadEncoding),
        (b"chunked;a=b", Why::BadEncoding),
        (b"chunked\xa0", Why::BadEncoding),
        (b"\x0bchunked", Why::BadHeaderValue),
        (b"identity, chunked", Why::UnknownEncoding),
        (b"gzip, chunked", Why::UnknownEncoding),
        (b"gzip\t,\tchunked", Why::UnknownEncoding),
        (b",chunked", Why::BadEncoding),
        (b"chunked,", Why::BadEncoding),
        (b"chunked, chunked", Why::BadEncoding),
        (b"identity", Why::BadEncoding),
        (b"", Why::BadEncoding),
        (b"chunked gzip", Why::BadEncoding),
        (b"gz ip, chunked", Why::BadEncoding),
        (b"chunked\0", Why::BadHeaderValue),
    ];
    for (value, why) in rows {
        let line = [b"Transfer-Encoding: ", value, b"\r\n"].concat();
        rejects("A3a/A3b", &post(&line, b"0\r\n\r\n"), why);
    }
    let twice = b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    rejects("A3b", &post(twice, b"0\r\n\r\n"), Why::BadEncoding);
    accepts("A3", &post(b"transfer-ENCODING:\t CHunked \t\r\n", b"0\r\n\r\n"), 1);
}

#[test]
fn a_disguised_transfer_encoding_name_is_rejected() {
    let rows: [(&[u8], Why); 7] = [
        (b"Transfer-Encoding : chunked\r\n", Why::SpaceBeforeColon),
        (b"Transfer-Encoding\t: chunked\r\n", Why::SpaceBeforeColon),
        (b"X: y\nTransfer-Encoding: chunked\r\n", Why::BareLf),
        (b"X: y\rTransfer-Encoding: chunked\r\n", Why::BareCr),
        (b"Transfer_Encoding: chunked\r\n", Why::FramingAlias),
        (b"content_LENGTH: 5\r\n", Why::FramingAlias),
        (b"Transfer\r-Encoding: chunked\r\n", Why::BadHeaderName),
    ];
    for (fields, why) in rows {
        rejects("A3c", &post(fields, b"0\r\n\r\n"), why);
    }
    rejects(
        "A3c",
        b"POST / HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: t\r\n\r\n0\r\n\r\n",
        Why::ObsFold,
    );
}

#[test]
fn an_encoding_in_http_1_0_is_rejected() {
    rejects(
        "A4",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
        Why::BadEncoding,
    );
}

#[test]
fn only_one_plain_content_length_passes() {
    let twice: &[u8] = b"Content-Length: 5\r\nContent-Length: 6\r\n";
    rejects("A5", &post(twice, b"hello"), Why::RepeatedLength);
    let twice: &[u8] = b"Content-Length: 5\r\ncontent-length: 5\r\n";
    rejects("A6", &post(twice, b"hello"), Why::RepeatedLength);
    let values: [&[u8]; 13] = [
        b"5, 6",
        b"5, 5",
        b"",
        b"+5",
        b"-0",
        b"0x10",
        b"1_0",
        b"5 5",
        b"99999999999999999999",
        b"\xd9\xa5",
        b"5.0",
        b"5,",
        b"\"5\"",
    ];
    for value in values {
        let line = [b"Content-Length: ", value, b"\r\n"].concat();
        rejects("A5/A6/A7", &post(&line, b"hello"), Why::BadLength);
    }
    accepts("A7", &post(b"Content-Length: \t5 \r\n", b"hello"), 1);
    accepts("A7", &post(b"Content-Length: 0\r\n", b""), 1);
}

#[test]
fn a_body_under_a_get_is_a_body_and_not_a_request() {
    let body = b"GET /x HTTP/1.1\r\nHost: t\r\n\r\n";
    assert_eq!(body.len(), 28);
    let bytes = [&get(b"Content-Length: 28\r\n")[..], body].concat();
    accepts("A8", &bytes, 1);
    let bytes = [&bytes[..], &get(b"")].concat();
    accepts("A8", &bytes, 2);
}

#[test]
fn malformed_chunk_sizes_are_rejected() {
    let sizes: [&[u8]; 15] = [
        b"0x5\r\nhello",
        b"+5\r\nhello",
        b"-0\r\n",
        b" 5\r\nhello",
        b"5_\r\nhello",
        b"\r\n",
        b"10000000000000005\r\nhello",
        b"00000000000000005\r\nhello",
        b"5\nhello",
        b"5\rXhello",
        b"5,5\r\nhello",
        b";a=b\r\nhello",
        b"\xff\r\n",
        b"g\r\n",
        b"5\0\r\nhello",
    ];
    for size in sizes {
        rejects("A9", &chunked(&[size, b"\r\n0\r\n\r\n"].concat()), Why::BadChunk);
    }
    for padded in [&b"5   \r\nhello"[..], b"5\t\r\nhello", b"5 5\r\nhello"] {
        let bytes = chunked(&[padded, b"\r\n0\r\n\r\n"].concat());
        rejects("A9", &bytes, Why::BadChunkExtension);
    }
    accepts("A9", &chunked(b"0000000000000005\r\nhello\r\n0000\r\n\r\n"), 1);
    accepts("A9", &chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), 1);
}

#[test]
fn a_size_line_with_two_line_ends_leaves_a_chunk_of_line_end_bytes() {
    // `5 CRLF CRLF`: the second CRLF is data, so the framing breaks where the data should end.
    rejects("A9", &chunked(b"5\r\n\r\nhello\r\n0\r\n\r\n"), Why::BadChunk);
}

#[test]
fn chunk_extensions_follow_their_grammar() {
    let bad: [&[u8]; 14] = [
        b";\nhello",
        b";a=\"\r\nx\"",
        b";\x00e",
        b";a\x7f",
        b";",
        b";a=",
        b";a=b ",
        b";a=\"b",
        b";a=\"b\"c",
        b";a b",
        b";=b",
        b";a=b=c",
        b" ",
        b";a=\"\\\x01\"",
    ];
    for extension in bad {
        let body = [b"5", extension, b"\r\nhello\r\n0\r\n\r\n"].concat();
        rejects("A10", &chunked(&body), Why::BadChunkExtension);
    }
    let good: [&[u8]; 8] = [
        b";a",
        b";a=b",
        b" ; a = b;c",
        b";a=\"b c;\t\\\"\\\\\"",
        b";a=\"\"",
        b";a=\"\xe4\"",
        b";a;b;c=d",
        b";a=\"x\" ;b",
    ];
    for extension in good {
        let body = [b"5", extension, b"\r\nhello\r\n0", extension, b"\r\n\r\n"].concat();
        accepts("A10", &chunked(&body), 1);
    }
}

#[test]
fn chunk_extensions_have_a_limit_per_line_and_per_body() {
    let line = |size: usize| [b"1;", &vec![b'a'; size - 1][..], b"\r\nx\r\n"].concat();
    accepts("A10", &chunked(&[&line(1023)[..], b"0\r\n\r\n"].concat()), 1);
    rejects("A10", &chunked(&line(1100)), Why::BadChunkExtension);
    rejects("A10", &chunked(&line(20_000)), Why::BadChunkExtension);
    accepts("A10", &chunked(&[line(1000).repeat(16), b"0\r\n\r\n".to_vec()].concat()), 1);
    rejects("A10", &chunked(&line(1000).repeat(17)), Why::BadChunkExtension);
}

#[test]
fn chunk_data_ends_with_a_line_end() {
    for data in [&b"5\r\nhelloXX0\r\n\r\n"[..], b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\rX0\r\n\r\n"]
    {
        rejects("A11", &chunked(data), Why::BadChunk);
    }
    // A truncated body is the connection's to notice: the gate is still inside it.
    let outcome = outcome(&chunked(b"3\r\nabc\r\n"));
    assert_eq!(outcome, Outcome { heads: 1, end: Ok(super::Phase::Body) });
}

#[test]
fn bare_line_feeds_and_carriage_returns_are_rejected() {
    rejects("A12", b"GET / HTTP/1.1\nHost: t\n\n", Why::BareLf);
    rejects("A12", b"GET / HTTP/1.1\r\nHost: t\n\r\n", Why::BareLf);
    rejects("A12", b"GET / HTTP/1.1\r\nHost: t\r\n\n", Why::BareLf);
    rejects("A12", b"GET / HTTP/1.1\r\nHost: t\r\n\rX", Why::BareCr);
    rejects("A12", b"GET / HTTP/1.1\rHost: t\r\n\r\n", Why::BareCr);
    rejects("A12", b"\nGET / HTTP/1.1\r\nHost: t\r\n\r\n", Why::BareLf);
    rejects("A12", b"\r\rGET / HTTP/1.1\r\nHost: t\r\n\r\n", Why::BareCr);
}

#[test]
fn control_characters_in_values_are_rejected_and_high_bytes_pass() {
    for byte in (0..=0x1f_u8).chain([0x7f]) {
        let why = match byte {
            b'\t' => continue,
            b'\n' => Why::BareLf,
            b'\r' => Why::BareCr,
            _ => Why::BadHeaderValue,
        };
        // At every place of a word of eight, and in the tail.
        for place in 0..20 {
            let mut value = [b'v'; 20];
            value[place] = byte;
            rejects("A13", &get(&[b"X:", &value[..], b"\r\n"].concat()), why);
        }
    }
    let printable: Vec<u8> = (b' '..=b'~').chain(0x80..=0xff).chain([b'\t', b'v']).collect();
    accepts("A13", &get(&[b"X:", &printable[..], b"\r\n"].concat()), 1);
}

#[test]
fn folded_lines_are_rejected() {
    rejects("A14", &get(b"X: a\r\n b: c\r\n"), Why::ObsFold);
    rejects("A14", &get(b"X: a\r\n\t\r\n"), Why::ObsFold);
}

#[test]
fn field_names_are_tokens_with_a_colon_right_after() {
    rejects("A15", &get(b": v\r\n"), Why::BadHeaderName);
    rejects("A15", &get(b"no-colon\r\n"), Why::BadHeaderName);
    rejects("A15", &get(b"X : v\r\n"), Why::SpaceBeforeColon);
    rejects("A15", &get(b"X\x85: v\r\n"), Why::BadHeaderName);
    rejects("A15", &get(b"X\0: v\r\n"), Why::BadHeaderName);
    rejects("A15", &get(b"X(y): v\r\n"), Why::BadHeaderName);
    let long = [&vec![b'a'; 65_536][..], b": v\r\n"].concat();
    rejects("A15", &get(&long), Why::HeadTooLarge);
    accepts("A15", &get(b"X:\r\n!#$%&'*+-.^_`|~09aZ:v\r\n"), 1);
}

#[test]
fn two_empty_lines_before_a_request_pass_and_a_third_does_not() {
    let request = get(b"");
    accepts("A16", &[b"\r\n", &request[..]].concat(), 1);
    accepts("A16", &[&request[..], b"\r\n\r\n", &request].concat(), 2);
    rejects("A16", &[b"\r\n\r\n\r\n", &request[..]].concat(), Why::EmptyLines);
    rejects("A16", &b"\r\n".repeat(10_000), Why::EmptyLines);
}

#[test]
fn a_pipeline_is_served_up_to_the_first_bad_request() {
    let (good, bad) = (get(b""), get(b"X : v\r\n"));
    let bytes = [&good[..], &bad, &good].concat();
    assert_eq!(outcome(&bytes), Outcome { heads: 1, end: Err(Why::SpaceBeforeColon) });
    let (_, passed) = super::judge(&bytes, &[], super::GateLimits::default());
    assert_eq!(passed, good, "A19: exactly the first request passes");
}

#[test]
fn an_unread_body_is_never_taken_for_a_request() {
    let body = get(b"X-Padding: 0123456789012345678901234567890123456789012345678901234\r\n");
    assert!(body.len() <= 100);
    let line = format!("Content-Length: {}\r\n", body.len());
    accepts("A20", &[&post(line.as_bytes(), &body)[..], &get(b"")].concat(), 2);
}

#[test]
fn an_http_1_0_get_or_head_has_no_body() {
    rejects("A21", b"GET / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", Why::UnexpectedBody);
    rejects("A21", b"HEAD / HTTP/1.0\r\nContent-Length: 1\r\n\r\nh", Why::UnexpectedBody);
    accepts("A21", b"GET / HTTP/1.0\r\nContent-Length: 0\r\n\r\n", 1);
    accepts("A21", b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", 1);
}
