use proptest::prelude::*;

use super::*;

/// Made by `openssl passwd -apr1`.
const APR1_HASHES: [(&str, &str); 7] = [
    ("", "$apr1$r31.....$iQoXxeL5pW.kaXVrniDCU0"),
    ("a", "$apr1$r31.....$s7OSk4uJoyS8elmZY5Ru40"),
    ("secret", "$apr1$r31.....$G/cElGhD0cboYkZN5h5Ne/"),
    ("pässword", "$apr1$r31.....$f/MNEvFtDdEngPZeIhAr.0"),
    ("a-rather-long-password-of-more-than-sixteen-bytes", "$apr1$r31.....$DgJdbHEn29mydDdpPbCE51"),
    ("0123456789abcdef", "$apr1$r31.....$LTaWPsXNWWe0zznf5.fh/."),
    ("x", "$apr1$ab$eIePjsejfBGR8ITtu2z0U1"),
];
/// Made by glibc's crypt.
const BCRYPT_SECRET: &str = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";
const SHA_SECRET: &str = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";

fn fits(hash: &str, password: &[u8]) -> bool {
    StoredHash::new(hash.as_bytes()).fits(password)
}

#[test]
fn every_kind_of_hash_fits_its_password_only() {
    for (password, hash) in APR1_HASHES {
        assert!(fits(hash, password.as_bytes()), "{password:?}");
        assert!(!fits(hash, format!("{password}x").as_bytes()), "{password:?}");
    }
    assert!(fits(SHA_SECRET, b"secret") && !fits(SHA_SECRET, b"Secret"));
    for version in ["$2a$", "$2b$", "$2y$"] {
        let hash = BCRYPT_SECRET.replace("$2b$", version);
        assert!(fits(&hash, b"secret") && !fits(&hash, b"secrets"), "{version}");
    }
}

#[test]
fn what_is_no_hash_of_a_known_kind_fits_nothing_and_is_reported() {
    for hash in [
        "secret",
        "",
        "{PLAIN}secret",
        "{SHA}secret",
        "{SHA}",
        "$1$salt$gKmTHCLkfIT3lGKyaaqEr1",
        "rqXexS6ZhobKA",
        "$apr1$$iQoXxeL5pW.kaXVrniDCU0",
        "$apr1$salt$short",
        "$2b$05$short",
        "$2x$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        "$2b$31$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        "$2b$3$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0aa",
    ] {
        assert!(!fits(hash, hash.as_bytes()) && !fits(hash, b"secret"), "{hash}");
        let (users, faults) = Htpasswd::parse(format!("ann:{hash}\n").as_bytes());
        assert_eq!(users.len(), 1, "{hash}");
        assert!(matches!(faults[..], [Fault { line: 1, .. }]), "{hash}: {faults:?}");
        assert!(!users.find(b"ann").1, "{hash}");
    }
}

#[test]
fn a_text_that_c_programs_would_cut_short_and_an_endless_one_fit_nothing() {
    assert!(!fits(SHA_SECRET, b"secret\0"));
    let long = "x".repeat(LONGEST_PASSWORD + 1);
    let hash =
        format!("{{SHA}}{}", STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, long.as_bytes())));
    assert!(!fits(&hash, long.as_bytes()));
}

#[test]
fn lines_are_read_as_apache_reads_them() {
    let text = format!(
        "# people\r\n\r\n  ann:{SHA_SECRET}\r\nbob:{BCRYPT_SECRET}:Bob, a comment\nann:{BCRYPT_SECRET}\n\
         no colon\n:nobody\n"
    );
    let (users, faults) = Htpasswd::parse(text.as_bytes());
    assert_eq!(users.len(), 2);
    let (ann, known) = users.find(b"ann");
    assert!(known && ann.as_bytes() == SHA_SECRET.as_bytes(), "the first line counts");
    assert!(users.find(b"bob").1);
    assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [5, 6, 7]);
}

#[test]
fn whoever_is_not_there_is_checked_against_the_slowest_hash() {
    let text = format!("ann:{SHA_SECRET}\nbob:{BCRYPT_SECRET}\ncid:secret\n");
    let (users, _) = Htpasswd::parse(text.as_bytes());
    for name in ["dan", "cid", ""] {
        let (stored, known) = users.find(name.as_bytes());
        assert!(!known && stored.as_bytes() == BCRYPT_SECRET.as_bytes(), "{name}");
    }
}

#[test]
fn neither_debug_nor_faults_show_what_stands_there() {
    let (users, faults) = Htpasswd::parse(b"ann:hunter2\nhunter3\n");
    let shown = format!("{users:?} {faults:?}");
    assert!(!shown.contains("hunter"), "{shown}");
}

proptest! {
    #[test]
    fn a_made_file_lets_in_whom_it_was_made_for(
        people in prop::collection::btree_map("[a-zA-Z0-9._@-]{1,12}", "[ -~äö]{0,20}", 1..8),
        other in "[ -~]{1,20}",
    ) {
        let mut text = String::new();
        for (number, (name, password)) in people.iter().enumerate() {
            let bytes = password.as_bytes();
            let hash = match number % 3 {
                0 => format!("{{SHA}}{}", STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes))),
                1 => format!("$apr1$s{number}$") + &String::from_utf8(apr1(bytes, format!("s{number}").as_bytes())).unwrap(),
                _ => bcrypt::hash(bytes, 4).unwrap(),
            };
            text.push_str(&format!("{name}:{hash}\n"));
        }
        let (users, faults) = Htpasswd::parse(text.as_bytes());
        prop_assert!(faults.is_empty(), "{:?}", faults);
        prop_assert_eq!(users.len(), people.len());
        for (name, password) in &people {
            let (stored, known) = users.find(name.as_bytes());
            prop_assert!(known && stored.fits(password.as_bytes()), "{}", name);
            prop_assert!(*password == other || !stored.fits(other.as_bytes()), "{}", name);
        }
    }

    #[test]
    fn any_bytes_are_read_without_letting_anybody_in_by_chance(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let (users, _) = Htpasswd::parse(&text);
        for line in text.split(|byte| *byte == b'\n') {
            let user = line.split(|byte| *byte == b':').next().unwrap_or_default();
            prop_assert!(!users.find(user).1);
        }
    }
}
