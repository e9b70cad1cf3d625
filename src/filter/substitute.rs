//! A path made anew by a regular expression: owns what is found, what is put in its place, and
//! that nothing but a path and its query can come of it.
//!
//! The expression sees the path in its one form (see [`RequestTarget`]), the same bytes the router
//! matched: unreserved characters as such, everything else as an escape with upper-case digits, so
//! that a space is `%20`. (nginx looks at the decoded path and encodes it again. There a line break
//! that a client writes as `%0A` ends what `.*` takes, and cuts the path short.)

use std::fmt::Write;

use regex::bytes::{Captures, Regex, RegexBuilder};

use super::{RequestTarget, TargetError};
use crate::ir::RegexRewrite;

/// The largest compiled expression in bytes, as for the router's.
const SIZE_LIMIT: usize = 1 << 20;

/// A rewrite by expression, ready to apply.
pub struct Substitution {
    regex: Regex,
    path: Box<[Piece]>,
    query: Option<Box<[Piece]>>,
    /// Whether the client's own query goes.
    drops_query: bool,
}

/// A part of a replacement.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    /// What the group of this number matched; nothing where it took no part.
    Group(usize),
}

impl std::fmt::Debug for Substitution {
    /// Without the texts, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Substitution").finish_non_exhaustive()
    }
}

impl Substitution {
    /// Compiles a rewrite, or says what is wrong with it.
    pub fn new(rewrite: &RegexRewrite) -> Result<Self, String> {
        let regex = compile(&rewrite.pattern)?;
        let text = rewrite.replacement.expose_str();
        let wrong = |error: &dyn std::fmt::Display| {
            format!("'{}' cannot be a path: {error}", rewrite.replacement)
        };
        let (text, drops_query) = match text.strip_suffix('?') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        let path = pieces(path).map_err(|error| wrong(&error))?;
        let query = query.map(pieces).transpose().map_err(|error| wrong(&error))?;
        let substitution = Self { regex, path, query, drops_query };
        // What is wrong with any match is found here and not by a request.
        let root = RequestTarget::from_parts("/", None).map_err(|error| wrong(&error))?;
        substitution.build(None, &root).map_err(|error| wrong(&error))?;
        Ok(substitution)
    }

    /// The target after the rewrite: as it was where the expression is not found in the path.
    pub fn apply(&self, target: &RequestTarget) -> Result<RequestTarget, TargetError> {
        match self.regex.captures(target.path().as_bytes()) {
            Some(found) => self.build(Some(&found), target),
            None => Ok(target.clone()),
        }
    }

    /// Puts the groups in; without a match a `0` stands for each.
    fn build(
        &self,
        found: Option<&Captures<'_>>,
        own: &RequestTarget,
    ) -> Result<RequestTarget, TargetError> {
        let mut path = String::new();
        for piece in &self.path {
            path.push_str(text(piece, found)?);
        }
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        let mut query = String::new();
        for piece in self.query.iter().flatten() {
            match piece {
                Piece::Text(text) => query.push_str(text),
                Piece::Group(_) => push_parameter(&mut query, text(piece, found)?),
            }
        }
        let query_of_own = own.query().filter(|_| !self.drops_query);
        let query = match (query.is_empty(), query_of_own) {
            (true, own) => own,
            (false, Some(own)) if !own.is_empty() => {
                query.push('&');
                query.push_str(own);
                Some(&*query)
            }
            (false, _) => Some(&*query),
        };
        own.rewritten(&path, query)
    }
}

fn text<'a>(piece: &'a Piece, found: Option<&Captures<'a>>) -> Result<&'a str, TargetError> {
    match piece {
        Piece::Text(text) => Ok(text),
        Piece::Group(number) => {
            let Some(found) = found else { return Ok("0") };
            let group = found.get(*number);
            let bytes = group.map(|group| group.as_bytes()).unwrap_or_default();
            std::str::from_utf8(bytes).map_err(|_| TargetError::Character)
        }
    }
}

/// Appends what was part of a path to a query, where some characters mean something else.
fn push_parameter(query: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' | '+' | ';' => {
                // Writing to a `String` cannot fail.
                let _ = write!(query, "%{:02X}", u32::from(character));
            }
            _ => query.push(character),
        }
    }
}

/// A path is ASCII, so bytes do; tables of Unicode would only make each expression many times as
/// large. What asks for them (`\p{Greek}`) gets them.
pub(super) fn compile(text: &str) -> Result<Regex, String> {
    let build = |unicode: bool| {
        let mut builder = RegexBuilder::new(text);
        builder.unicode(unicode).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build()
    };
    build(false)
        .or_else(|_| build(true))
        .map_err(|error| format!("the regular expression \"{text}\" is not usable: {error}"))
}

/// Takes a replacement apart at `$1` to `$9` and `${1}` to `${9}`.
fn pieces(text: &str) -> Result<Box<[Piece]>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        let (digit, after) = match after.strip_prefix('{').and_then(|t| t.split_once('}')) {
            Some((digit, after)) => (digit, after),
            None => after.split_at_checked(1).unwrap_or((after, "")),
        };
        let number = match digit.as_bytes() {
            [digit @ b'1'..=b'9'] => usize::from(digit - b'0'),
            _ => return Err("a '$' without the number of a group, 1 to 9".to_owned()),
        };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.into()));
        }
        pieces.push(Piece::Group(number));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.into()));
    }
    Ok(pieces.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn new(pattern: &str, replacement: &str) -> Result<Substitution, String> {
        Substitution::new(&RegexRewrite {
            pattern: pattern.into(),
            replacement: replacement.into(),
        })
    }

    fn rewritten(pattern: &str, replacement: &str, target: &str) -> Result<String, TargetError> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let target = RequestTarget::from_parts(path, query).expect("a sound target");
        let plan = new(pattern, replacement).expect("a sound rewrite");
        plan.apply(&target).map(|target| target.as_str().to_owned())
    }

    fn becomes(pattern: &str, replacement: &str, target: &str, expected: &str) {
        let got = rewritten(pattern, replacement, target);
        assert_eq!(got.as_deref(), Ok(expected), "{pattern} {replacement} {target}");
    }

    #[test]
    fn the_whole_path_becomes_the_replacement_with_its_groups() {
        becomes("(?i)/api(/|$)(.*)", "/$2", "/API/v1/x?q=1", "/v1/x?q=1");
        becomes("/api(/|$)(.*)", "/$2", "/api", "/");
        becomes("/something", "/", "/something/else?q=1", "/?q=1");
        becomes("/b/(.)(.)", "/${2}1$1x", "/a/b/cd/e", "/d1cx");
        becomes("/a(b)?", "/x$1y$9", "/a", "/xy");
        becomes("/a(/.*)", "$1", "/a/b", "/b");
        becomes("/(a.*)", "$1", "/ab", "/ab");
    }

    #[test]
    fn a_path_in_which_it_is_not_found_stays() {
        becomes("^/api", "/", "/v1/api?q", "/v1/api?q");
        becomes("/API", "/", "/api", "/api");
    }

    #[test]
    fn a_query_is_put_before_the_clients_own_or_in_its_place() {
        becomes("/item/(.*)", "/item?id=$1", "/item/7", "/item?id=7");
        becomes("/item/(.*)", "/item?id=$1", "/item/7?x=1", "/item?id=7&x=1");
        becomes("/item/(.*)", "/item?id=$1", "/item/7?", "/item?id=7");
        becomes("/item/(.*)", "/item?id=$1?", "/item/7?x=1", "/item?id=7");
        becomes("/item/(.*)", "/item/$1?", "/item/7?x=1", "/item/7");
        // What a client writes stays within its parameter.
        becomes("/i/(.*)", "/i?id=$1", "/i/a&b=c+d;e%26", "/i?id=a%26b=c%2Bd%3Be%26");
    }

    #[test]
    fn what_was_encoded_stays_encoded() {
        becomes("/a/(.*)", "/$1", "/a/x%20y%3F%23z%C3%A9", "/x%20y%3F%23z%C3%A9");
        // A line break neither ends what `.*` takes nor hides the end.
        becomes("^/a/(.*)$", "/$1", "/a/x%0Ay", "/x%0Ay");
    }

    #[test]
    fn what_is_no_sound_target_is_refused() {
        // Out of the directory that the replacement names.
        assert_eq!(rewritten("/a(.*)", "/safe/$1", "/a../x"), Err(TargetError::Dots));
        assert_eq!(rewritten("/a/(.*)", "/b/.$1", "/a/./x"), Ok("/b/.x".to_owned()));
        assert_eq!(rewritten("/a/(.*)", "/b/.$1", "/a/.../x"), Ok("/b/..../x".to_owned()));
        assert_eq!(rewritten("/a/(.*)", "/b/.$1", "/a/"), Err(TargetError::Dots));
        // Half an escape.
        assert_eq!(rewritten("/(..)", "/$1", "/%20"), Err(TargetError::Escape));
        assert_eq!(rewritten("/(.)(.*)", "/%2$2", "/aFb"), Err(TargetError::Separator));
    }

    #[test]
    fn what_can_never_be_a_path_is_refused_when_it_is_compiled() {
        for replacement in ["/$", "/$0", "/$x", "/${1", "/${10}", "/a b", "/a#b", "/%2f", "/a/../b"]
        {
            assert!(new("/a", replacement).is_err(), "{replacement}");
        }
        assert!(new("/a(", "/").is_err());
        assert!(new(r"\p{Greek}", "/").is_ok());
    }

    proptest! {
        #[test]
        fn whatever_comes_of_it_is_a_target_in_its_one_form(
            path in "/[ab./%2e&?=;]{0,12}",
            pattern in prop::sample::select(vec!["/a(.*)", "(.)(.)b", "([^/]*)$", "%(..)", ""]),
            replacement in prop::sample::select(vec!["/$1", "$2/x$1", "/x?y=$1", "/.$1", "/%2$1", "/x$1?"]),
        ) {
            let (path, query) = path.split_once('?').unwrap_or((&path, ""));
            let Ok(target) = RequestTarget::from_parts(path, Some(query)) else { return Ok(()) };
            let Ok(plan) = new(pattern, replacement) else { return Ok(()) };
            if let Ok(result) = plan.apply(&target) {
                let again = RequestTarget::from_parts(result.path(), result.query());
                prop_assert_eq!(again.as_ref(), Ok(&result));
                let extra = usize::from(replacement.contains("y="));
                let amps = result.query().unwrap_or("").matches('&').count();
                prop_assert!(amps <= query.matches('&').count() + extra);
            }
        }
    }
}
