//! Percent-encoding of paths in their one form (RFC 3986 §6.2.2): what they stand for, and back.

/// The bytes that `path`, in its one form, stands for.
pub fn decoded(path: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte.unwrap_or_default()).to_digit(16);
        // There is no broken escape in that form.
        if let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) {
            out.push((high * 16 + low) as u8);
        }
    }
    out
}

/// Part of a decoded path with everything escaped that is no character of paths (RFC 3986 §3.3).
pub fn encoded(part: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or(b'0');
    let mut out = String::with_capacity(part.len());
    for byte in part.iter().copied() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', char::from(digit(byte >> 4)), char::from(digit(byte))]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_as_it_was(part in prop::collection::vec(any::<u8>(), 0..20)) {
            let text = encoded(&part);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?'), "{}", text);
            prop_assert_eq!(decoded(&text), part);
        }
    }
}
