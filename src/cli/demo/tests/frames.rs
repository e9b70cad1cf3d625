//! WebSocket frames without sockets.

use proptest::prelude::*;

use super::super::frame::{self, Decoder, Message, Violation};
use super::masked;

fn decode(pieces: &[&[u8]]) -> Result<Vec<Message>, Violation> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(message) = decoder.message()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

#[test]
fn frames_that_break_the_protocol_are_named() {
    let too_big = masked(0x82, &vec![0; frame::LARGEST + 1]);
    let mut fragments = masked(0x02, &vec![0; frame::LARGEST]);
    fragments.extend(masked(0x80, &[0]));
    let cases: [(&[u8], Violation); 9] = [
        (&masked(0xc1, b"reserved bit"), Violation::Protocol),
        (&masked(0x83, b"unknown opcode"), Violation::Protocol),
        (&masked(0x80, b"continues nothing"), Violation::Protocol),
        (&masked(0x09, b"fragmented ping"), Violation::Protocol),
        (&masked(0x89, &[0; 126]), Violation::Protocol),
        (&masked(0x88, &[3]), Violation::Protocol),
        (&masked(0x81, &[0xff]), Violation::NotUtf8),
        (&too_big, Violation::TooBig),
        (&fragments, Violation::TooBig),
    ];
    for (bytes, violation) in cases {
        assert_eq!(decode(&[bytes]), Err(violation), "{bytes:02x?}");
    }
    let interleaved = [masked(0x01, b"a"), masked(0x01, b"b")].concat();
    assert_eq!(decode(&[&interleaved]), Err(Violation::Protocol));
}

proptest! {
    #[test]
    fn messages_are_the_same_however_their_bytes_are_cut(
        messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 1..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (ping, content) in messages {
            if ping && content.len() <= 125 {
                bytes.extend(masked(0x89, &content));
                expected.push(Message::Ping(content));
            } else {
                let (start, end) = content.split_at(content.len() / 2);
                bytes.extend(masked(0x02, start));
                bytes.extend(masked(0x80, end));
                expected.push(Message::Binary(content));
            }
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(decode(&pieces), Ok(expected));
    }

    #[test]
    fn no_bytes_upset_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&[&bytes]);
    }
}
