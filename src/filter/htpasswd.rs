//! Password files as Apache's `htpasswd` writes them: a line `user:hash` for each user.
//!
//! Three kinds of hash are known: bcrypt (`$2a$`, `$2b$`, `$2y$`), Apache's MD5 (`$apr1$`) and
//! `{SHA}`. A user with anything else, a plain password above all, is refused and reported.
//! Checking a password may take long: it is no work for a worker.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

/// The longest password that is looked at, bytes. A slow hash of a long text is a gift to whoever
/// wants to keep the process busy.
const LONGEST_PASSWORD: usize = 1024;
/// The costs of bcrypt that `htpasswd` makes. Each step doubles the work: beyond the last a single
/// password would take many seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=17;
const APR1: &str = "$apr1$";

/// Users and the hashes of their passwords.
pub struct Htpasswd {
    users: HashMap<Box<[u8]>, Arc<StoredHash>>,
    /// Stands in for users that are not there, so that they take as long as the others.
    decoy: Arc<StoredHash>,
}

/// The hash of a password as the file has it.
#[derive(PartialEq, Eq)]
pub struct StoredHash {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Nothing ever fits.
    Unusable,
    Sha1,
    Apr1,
    Bcrypt {
        cost: u32,
    },
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong; never with what stands there, which may be a password.
    pub what: &'static str,
}

impl Htpasswd {
    /// Reads a password file. Of two lines for one user the first counts. Every line that lets
    /// nobody in is a fault.
    pub fn parse(text: &[u8]) -> (Self, Vec<Fault>) {
        let mut users: HashMap<Box<[u8]>, Arc<StoredHash>> = HashMap::new();
        let mut faults = Vec::new();
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let mut fault = |what| faults.push(Fault { line: number + 1, what });
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let (Some(user @ [_, ..]), Some(hash)) = (parts.next(), parts.next()) else {
                fault("it is not of the form user:hash");
                continue;
            };
            let stored = StoredHash::new(hash);
            if stored.kind == Kind::Unusable {
                fault("its hash is neither bcrypt of cost 4 to 17, nor $apr1$, nor {SHA}");
            }
            if users.contains_key(user) {
                fault("its user has a line already");
            } else {
                users.insert(user.into(), Arc::new(stored));
            }
        }
        let slowest = users.values().max_by_key(|stored| stored.kind).cloned();
        let decoy = slowest.unwrap_or_else(|| Arc::new(StoredHash::new(b"")));
        (Self { users, decoy }, faults)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The hash to check the password of `user` against. For a user that nobody knows, or whose
    /// hash is unusable, there is one as well, as slow as any; the second part says that whatever
    /// comes of it counts for nothing.
    pub fn find(&self, user: &[u8]) -> (&Arc<StoredHash>, bool) {
        let stored = self.users.get(user).filter(|stored| stored.kind != Kind::Unusable);
        (stored.unwrap_or(&self.decoy), stored.is_some())
    }
}

impl std::fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Htpasswd({} users)", self.users.len())
    }
}

impl StoredHash {
    fn new(hash: &[u8]) -> Self {
        let text = std::str::from_utf8(hash).unwrap_or_default();
        Self { text: text.into(), kind: kind(text) }
    }

    /// The hash as it stands in the file.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Whether this is the hash of `password`. Takes its time, and nearly the same time whether it
    /// fits or not.
    pub fn fits(&self, password: &[u8]) -> bool {
        // To C programs, which most of those that made the hash are, a text ends at NUL.
        if password.len() > LONGEST_PASSWORD || password.contains(&0) {
            return false;
        }
        match self.kind {
            Kind::Unusable => false,
            Kind::Sha1 => {
                let stored = self.text.strip_prefix("{SHA}").unwrap_or_default();
                let made = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, password));
                verify_slices_are_equal(made.as_bytes(), stored.as_bytes()).is_ok()
            }
            Kind::Apr1 => {
                let rest = self.text.strip_prefix(APR1).unwrap_or_default();
                let (salt, stored) = rest.split_once('$').unwrap_or_default();
                let made = apr1(password, salt.as_bytes());
                verify_slices_are_equal(&made, stored.as_bytes()).is_ok()
            }
            // As in every other implementation only the first 72 bytes count.
            Kind::Bcrypt { .. } => bcrypt::verify(password, &self.text).unwrap_or(false),
        }
    }
}

fn kind(text: &str) -> Kind {
    if let Some(rest) = text.strip_prefix("{SHA}") {
        let whole = STANDARD.decode(rest).is_ok_and(|digest| digest.len() == 20);
        return if whole { Kind::Sha1 } else { Kind::Unusable };
    }
    if let Some(rest) = text.strip_prefix(APR1) {
        let whole = rest.split_once('$').is_some_and(|(salt, digest)| {
            (1..=8).contains(&salt.len()) && digest.len() == 22 && is_itoa64(digest)
        });
        return if whole { Kind::Apr1 } else { Kind::Unusable };
    }
    let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| text.strip_prefix(prefix));
    let parts = rest.and_then(|rest| rest.split_once('$'));
    match parts.and_then(|(cost, rest)| Some((cost.len(), cost.parse().ok()?, rest))) {
        Some((2, cost, rest)) if COSTS.contains(&cost) && rest.len() == 53 && is_itoa64(rest) => {
            Kind::Bcrypt { cost }
        }
        _ => Kind::Unusable,
    }
}

/// Whether all of it are digits as such hashes have them.
fn is_itoa64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'))
}

/// Apache's variant of the MD5 scheme of FreeBSD's crypt, as its 22 digits.
fn apr1(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password);
    let inner = inner.finalize();
    let mut outer = Md5::new().chain_update(password).chain_update(APR1).chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        let part = left.min(inner.len());
        outer.update(inner.get(..part).unwrap_or_default());
        left -= part;
    }
    let mut bits = password.len();
    while bits > 0 {
        match bits & 1 {
            1 => outer.update([0]),
            _ => outer.update(password.get(..1).unwrap_or_default()),
        }
        bits >>= 1;
    }
    let mut made = outer.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        let odd = round % 2 == 1;
        next.update(if odd { password } else { &made });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if odd { &made } else { password });
        made = next.finalize();
    }
    digits(&made)
}

/// The digest in the order and the digits of crypt.
fn digits(digest: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let byte = |at: usize| u32::from(digest.get(at).copied().unwrap_or_default());
    let mut out = Vec::with_capacity(22);
    let mut put = |mut number: u32, count: usize| {
        for _ in 0..count {
            out.push(DIGITS.get(number as usize & 63).copied().unwrap_or(b'.'));
            number >>= 6;
        }
    };
    for [high, middle, low] in ORDER {
        put(byte(high) << 16 | byte(middle) << 8 | byte(low), 4);
    }
    put(byte(11), 2);
    out
}

#[cfg(test)]
mod tests;
