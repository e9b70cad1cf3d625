//! What holds for every document and every value.

use std::fs;
use std::time::Duration;

use proptest::prelude::*;

use super::super::field::Scalar;
use super::super::scalar::{Deadline, Period, Size};
use super::*;

/// Documents that exercise every part of the language.
fn seeds() -> Vec<String> {
    let mut seeds = Vec::new();
    for directory in ["config", "tests/golden/file"] {
        for entry in fs::read_dir(repository(directory)).unwrap() {
            let path = entry.unwrap().path();
            if !path.to_str().unwrap().ends_with(".out.yaml") {
                seeds.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    seeds.sort();
    seeds
}

/// A change of a text at a place given in thousandths.
#[derive(Clone, Debug)]
enum Edit {
    Cut(u16, u8),
    Insert(u16, String),
    Repeat(u16, u8),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let piece = prop_oneof![
        proptest::string::string_regex("[-{}\\[\\]:,#&*!|>'\"%@`~ \n\t$]{1,3}").unwrap(),
        Just("${PORT}".to_owned()),
        Just("<<: *a".to_owned()),
        Just("&a ".to_owned()),
        Just("\n---\n".to_owned()),
        any::<char>().prop_map(String::from),
        "-?[0-9]{1,25}",
    ];
    let edit = prop_oneof![
        (0..1000_u16, any::<u8>()).prop_map(|(at, n)| Edit::Cut(at, n)),
        (0..1000_u16, piece).prop_map(|(at, text)| Edit::Insert(at, text)),
        (0..1000_u16, any::<u8>()).prop_map(|(at, n)| Edit::Repeat(at, n)),
    ];
    proptest::collection::vec(edit, 1..12)
}

fn mutate(seed: &str, edits: &[Edit]) -> String {
    let mut text: Vec<char> = seed.chars().collect();
    for edit in edits {
        let place = |at: u16, text: &Vec<char>| usize::from(at) * text.len() / 1000;
        match edit {
            Edit::Cut(at, n) => {
                let at = place(*at, &text);
                let end = (at + usize::from(*n)).min(text.len());
                text.drain(at..end);
            }
            Edit::Insert(at, piece) => {
                let at = place(*at, &text);
                text.splice(at..at, piece.chars());
            }
            Edit::Repeat(at, n) => {
                let at = place(*at, &text);
                let end = (at + usize::from(*n)).min(text.len());
                let piece: Vec<char> = text[at..end].to_vec();
                text.splice(at..at, piece);
            }
        }
    }
    text.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_document_never_panics_and_is_either_usable_or_explained(
        seed in proptest::sample::select(seeds()),
        edits in edits(),
    ) {
        let text = mutate(&seed, &edits);
        let inputs = Inputs::from_text("mutated.yaml", &text, variables());
        let translation = translate(&inputs);
        let report = render(&translation.problems, &inputs, true);
        prop_assert!(translation.usable || !report.is_empty());
        let lines = u32::try_from(super::super::parse::lines(&text).count()).unwrap();
        for problem in &translation.problems {
            let location = problem.location.as_ref().expect("every problem has a place");
            prop_assert!(location.line <= lines + 1, "{problem} of {lines} lines");
            prop_assert!(!problem.message.is_empty() && !problem.message.ends_with('.'));
        }
        prop_assert_eq!(translate(&inputs), translation, "not a pure function");
    }

    #[test]
    fn a_duration_reads_as_it_was_written(millis in 0..315_360_000_000_u64) {
        let mut text = String::new();
        let mut rest = millis;
        for (unit, size) in
            [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)]
        {
            if rest / size > 0 {
                text.push_str(&format!("{}{unit}", rest / size));
            }
            rest %= size;
        }
        if text.is_empty() {
            text.push('0');
        }
        let Ok(Period(read)) = Period::parse(&text) else {
            return Err(TestCaseError::fail(format!("{text} is no duration")));
        };
        prop_assert_eq!(read, Duration::from_millis(millis));
        prop_assert_eq!(Deadline::parse(&text).is_ok(), millis > 0);
    }

    #[test]
    fn a_size_reads_as_it_was_written(number in 0..1_000_000_u64, unit in 0..8_usize) {
        let units = ["", "B", "KB", "KiB", "MB", "MiB", "GB", "GiB"];
        let factors = [1, 1, 1000, 1 << 10, 1_000_000, 1 << 20, 1_000_000_000, 1 << 30];
        let text = format!("{number}{}", units[unit]);
        let Ok(Size(read)) = Size::parse(&text) else {
            return Err(TestCaseError::fail(format!("{text} is no size")));
        };
        prop_assert_eq!(read, number * factors[unit]);
    }

    #[test]
    fn no_text_makes_a_small_value_panic(text in any::<String>()) {
        let _ = (Period::parse(&text), Size::parse(&text), Deadline::parse(&text));
    }

    /// The value of a variable is one scalar, whatever is in it: a body with it is exactly it, and
    /// nothing else of the configuration changes.
    #[test]
    fn no_value_of_a_variable_changes_the_structure(
        value in prop_oneof![
            any::<String>(),
            "[-{}\\[\\]:,#&*!|>'\"%@`~ \n\ta-c$]{0,40}",
            Just("x\nworkers: 7".to_owned()),
            Just("} ]\n---\nadmin: false".to_owned()),
            Just("${PORT} $$ ${file:secret}".to_owned()),
            Just("null".to_owned()),
        ],
    ) {
        let text = "hosts:\n  '*':\n    routes:\n      - path: /\n        respond:\n          body: ${VALUE}\n";
        let plain = text.replace("${VALUE}", "plain");
        let env = BTreeMap::from([("VALUE".to_owned(), value.clone())]);
        let with = translate(&Inputs::from_text("a.yaml", text, env));
        let mut without = translate(&Inputs::from_text("a.yaml", &plain, BTreeMap::new()));
        prop_assert!(with.usable, "{:?}", with.problems);
        let host = std::sync::Arc::make_mut(&mut without.fragment.hosts[0]);
        let crate::ir::Action::Respond(respond) = &mut host.routes[0].action
        else {
            return Err(TestCaseError::fail("no response"));
        };
        respond.body = crate::ir::Text::new(&value, true);
        if value.is_empty() {
            respond.headers.clear();
        }
        prop_assert_eq!(with.fragment, without.fragment);
    }
}

#[test]
fn a_substituted_secret_stands_in_no_problem_and_no_dump() {
    const SECRET: &str = "hunter2-and-more";
    let places = [
        "workers: '${S}'",
        "errors: '${S}'",
        "admin: { bind: '${S}' }",
        "trusted_proxies: ['${S}']",
        "listeners: { '${S}': { bind: '${S}', tls: { certificates: [{ cert: '${S}', key: '${S}' }] } } }",
        "hosts: { '${S}:': {} }",
        "hosts: { '*': { listeners: ['${S}'], routes: [{ upstream: '${S}' }] } }",
        "hosts: { '*': { routes: [{ path: '${S}', methods: ['${S} '], respond: {} }] } }",
        "hosts: { '*': { routes: [{ path: '(${S}', match: regex, respond: {} }] } }",
        "hosts: { '*': { routes: [{ path: /, '${S}': 1, respond: { status: '${S}' } }] } }",
        "hosts: { '*': { routes: [{ redirect: { host: '${S} ', path: '${S}' } }] } }",
        "hosts: { '*': { routes: [{ respond: { headers: { '${S} ': 1, a: \"${S}\\n\", b: '${S}' } } }] } }",
        "hosts: { '*': { routes: [{ respond: { headers: { authorization: '${S}' } } }] } }",
        "upstreams: { a: { endpoints: ['${S}', { address: '${S}', weight: '${S}' }], balance: '${S}' } }",
        "upstreams: { a: { endpoints: [{ address: 'a:1', zone: '${S}' }], balance: { hash: ['${S}', { cookie: '${S} ' }] } } }",
        "upstreams: { a: { endpoints: ['a:1'], affinity: { cookie: { name: '${S} ', secret: '${S}', domain: '${S} ' } } } }",
        // Usable, so that the dump is looked at too.
        "upstreams: { authorization: { endpoints: ['a:1'], affinity: { cookie: { secret: '${S}' } } } }",
        "upstreams: { a: { endpoints: ['a:1'], health: { path: '${S}', host: '${S} ', headers: { x-key: '${S}' } } } }",
        "upstreams: { a: { endpoints: ['a:1'], health: { headers: { authorization: '${S}' } } } }",
        "upstreams: { a: { endpoints: ['a:1'], health: '${S}', outlier: '${S}', retry_budget: '${S}', slow_start: '${S}' } }",
        "hosts: { '*': { routes: [{ upstream: a, hedge: '${S}', retry: { on: ['${S}', 'grpc:${S}'], per_try: '${S}' } }] } }",
        "access_log: { format: '${S}' }",
        "limits: { head_size: '${S}', head_timeout: '${S}' }",
        "drain: '${S}'",
    ];
    for source in ["${V}", "${file:secret}", "${NONE:-${V}}"] {
        for place in places {
            let text = place.replace("${S}", source);
            let env = BTreeMap::from([("V".to_owned(), SECRET.to_owned())]);
            let mut inputs = Inputs::from_text("a.yaml", &text, env);
            inputs.add_file("secret", SECRET.as_bytes());
            let translation = translate(&inputs);
            let shown = format!(
                "{}{:?}",
                render(&translation.problems, &inputs, false),
                translation.problems
            );
            assert!(!shown.contains(SECRET), "{text}\n{shown}");
            if place.contains("authorization") {
                let dump = serde_json::to_string(&translation.fragment).unwrap();
                assert!(translation.usable && !dump.contains(SECRET), "{dump}");
            }
        }
    }
}
