//! What certificates say, as text that is safe in headers, logs and labels.
//!
//! Distinguished names follow RFC 4514: the most specific part first, separators escaped, and every
//! byte outside printable ASCII as `\XX`, so that no certificate can break out of a header line or
//! forge a second part.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws_lc_rs::digest;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};
use x509_parser::x509::AttributeTypeAndValue;

/// Reads one DER certificate with nothing behind it.
pub(super) fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

/// The subject alternative names, `None` where the certificate has none.
pub(super) fn alternative_names<'a>(
    certificate: &'a X509Certificate<'a>,
) -> Option<&'a [GeneralName<'a>]> {
    let extension = certificate.subject_alternative_name().ok()??;
    Some(&extension.value.general_names)
}

/// An address out of its bytes in a certificate.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::V4(Ipv4Addr::from(four)));
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| IpAddr::V6(Ipv6Addr::from(sixteen)))
}

/// A subject alternative name with its type, as OpenSSL writes it: `DNS:…`, `IP:…`, `URI:…`,
/// `email:…`, `DirName:…`; `None` for the types that have no text.
pub(super) fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    let (kind, text) = match name {
        GeneralName::DNSName(text) => ("DNS:", *text),
        GeneralName::RFC822Name(text) => ("email:", *text),
        GeneralName::URI(text) => ("URI:", *text),
        GeneralName::IPAddress(bytes) => return Some(format!("IP:{}", address(bytes)?)),
        GeneralName::DirectoryName(name) => {
            return Some(format!("DirName:{}", distinguished_name(name)));
        }
        _ => return None,
    };
    Some(format!("{kind}{}", printable(text)))
}

/// The name in the string form of RFC 4514.
pub(super) fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut out = String::new();
    for (index, part) in parts.into_iter().rev().enumerate() {
        if index > 0 {
            out.push(',');
        }
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                out.push('+');
            }
            write_attribute(attribute, &mut out);
        }
    }
    out
}

/// `text` with everything escaped that is not plain printable ASCII.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(text, &mut out);
    out
}

/// The serial number as upper-case hexadecimal, as OpenSSL prints it.
pub(super) fn serial(certificate: &X509Certificate<'_>) -> String {
    let bytes = certificate.raw_serial();
    let significant = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    let mut out = String::with_capacity(significant.len() * 2);
    for byte in significant {
        let _ = write!(out, "{byte:02X}");
    }
    out
}

/// The SHA-256 of the whole certificate as lower-case hexadecimal.
pub(super) fn fingerprint(der: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, der).as_ref())
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn write_attribute(attribute: &AttributeTypeAndValue<'_>, out: &mut String) {
    let oid = attribute.attr_type().to_id_string();
    // RFC 4514 §3, and the one attribute beside it that real client certificates carry.
    let short = match oid.as_str() {
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        _ => oid.as_str(),
    };
    out.push_str(short);
    out.push('=');
    match attribute.as_str() {
        Ok(text) => escape(text, out),
        // An encoding that is no text here: the value's bytes, §2.4.
        Err(_) => {
            out.push('#');
            out.push_str(&hex(attribute.as_slice()));
        }
    }
}

fn escape(text: &str, out: &mut String) {
    let last = text.len().saturating_sub(1);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' if index == 0 => out.push_str("\\#"),
            b' ' if index == 0 || index == last => out.push_str("\\20"),
            b' '..=b'~' => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "\\{other:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn subject(parts: &[(DnType, &str)]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap();
        distinguished_name(parse(der.der()).unwrap().subject())
    }

    #[test]
    fn the_most_specific_part_stands_first() {
        let name =
            subject(&[(DnType::OrganizationName, "Shop, Inc."), (DnType::CommonName, "alice")]);
        assert_eq!(name, "CN=alice,O=Shop\\, Inc.");
    }

    #[test]
    fn no_subject_can_forge_a_part_or_a_line() {
        let name = subject(&[(DnType::CommonName, "a\r\nX-Admin: 1,CN=root é")]);
        assert_eq!(name, "CN=a\\0D\\0AX-Admin: 1\\,CN=root \\C3\\A9");
    }

    proptest! {
        #[test]
        fn escaped_text_is_printable_and_can_be_read_back(text in any::<String>()) {
            let mut out = String::new();
            escape(&text, &mut out);
            prop_assert!(out.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(unescape(&out), text.as_bytes());
        }
    }

    fn unescape(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'\\' {
                assert!(!b"\"+,;<>".contains(&byte));
                out.push(byte);
                continue;
            }
            let first = bytes.next().unwrap();
            if first.is_ascii_hexdigit() {
                let pair = [first, bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap());
            } else {
                out.push(first);
            }
        }
        out
    }
}
