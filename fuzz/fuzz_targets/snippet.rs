//! Snippets: whatever someone wrote, it is read or refused, and what its words are is the same
//! when they are written again.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use portcullis::provider::kubernetes::annotation::snippet::{Context, Kind, Snippet, tokens};
use portcullis::provider::kubernetes::annotation::{Class, NGINX_PREFIX, Options, parse};

fuzz_target!(|text: &str| {
    for context in [Context::Location, Context::Server] {
        let snippet = Snippet::parse(text, context);
        for directive in &snippet.directives {
            assert!(directive.line >= 1);
            if let Kind::If { then, .. } = &directive.kind {
                assert!(then.iter().all(|inner| !matches!(inner.kind, Kind::If { .. })));
            }
        }
        assert!(snippet.refused.iter().all(|refusal| !refusal.reason.contains(char::is_control)));
    }
    words(text);
    object(text);
});

/// Words that are written again are read the same.
fn words(text: &str) {
    let Ok(read) = tokens(text) else { return };
    let written: Vec<_> = read.iter().map(|token| token.kind.to_string()).collect();
    let again = tokens(&written.join(" ")).expect("what was read can be read again");
    assert!(read.iter().map(|token| &token.kind).eq(again.iter().map(|token| &token.kind)));
}

/// What is denied or refused is said, and the other way round.
fn object(text: &str) {
    for name in ["configuration-snippet", "server-snippet"] {
        let annotations = BTreeMap::from([(format!("{NGINX_PREFIX}/{name}"), text.to_owned())]);
        let parsed = parse(&annotations, &Options::default());
        let says = |class| parsed.findings.iter().any(|finding| finding.class == class);
        assert_eq!(parsed.denied.is_some(), says(Class::Denied));
        assert_eq!(parsed.refused.is_some(), says(Class::Refused));
    }
}
