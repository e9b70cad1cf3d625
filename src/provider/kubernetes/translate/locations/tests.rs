use ir::Step;
use proptest::prelude::*;

use super::*;
use crate::provider::kubernetes::annotation::Pattern;

const PATHS: [&str; 8] = ["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/b c"];
const EXPRESSIONS: [&str; 4] = ["^/a", "b$", "b/", "(?i)C"];
const ASKED: [&str; 11] =
    ["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/a/bc", "/ab", "/abc", "/b c", "/b c/d"];

fn location() -> impl Strategy<Value = Location> {
    let path = || prop::sample::select(&PATHS[..]).prop_map(Into::into);
    let expression = prop::sample::select(&EXPRESSIONS[..]);
    prop_oneof![
        path().prop_map(Location::Exact),
        path().prop_map(Location::First),
        expression.prop_map(|text| Location::Expression(Pattern::parse(text).unwrap())),
        path().prop_map(Location::Prefix),
    ]
}

fn path() -> impl Strategy<Value = RulePath> {
    let kind = prop::sample::select(&["Exact", "Prefix", "ImplementationSpecific"][..]);
    let text = prop::sample::select(&PATHS[..]);
    (text, kind).prop_map(|(text, kind)| RulePath::read(Some(text), kind, false).unwrap())
}

fn text(location: &Location) -> Option<&str> {
    match location {
        Location::Exact(path) | Location::First(path) | Location::Prefix(path) => Some(path),
        Location::Expression(_) => None,
    }
}

/// Who answers a request for `asked` by the text of nginx's documentation: the number of a location, or
/// a path of an Ingress, which is none here.
fn expected(locations: &[Location], paths: &[RulePath], asked: &str) -> Option<usize> {
    let place = |wanted: &dyn Fn(&Location) -> bool| locations.iter().position(wanted);
    let exact = place(&|one| matches!(one, Location::Exact(path) if **path == *asked));
    if exact.is_some() {
        return exact;
    }
    // As ingress-nginx writes them: those of whole segments are two.
    let decoded = |path: &RulePath| path.text.replace("%20", " ");
    let whole = paths.iter().filter(|path| path.kind != Kind::Implementation && !path.is_root());
    if whole.clone().any(|path| decoded(path) == asked) {
        return None;
    }
    let begins = paths.iter().filter(|path| path.kind != Kind::Exact);
    let begins = begins.map(|path| match path.kind {
        Kind::Prefix => format!("{}/", decoded(path).trim_end_matches('/')),
        _ => decoded(path),
    });
    let theirs = begins.filter(|path| asked.starts_with(path)).map(|path| path.len()).max();
    let ours = locations.iter().enumerate().filter_map(|(number, one)| match one {
        Location::First(path) | Location::Prefix(path) if asked.starts_with(&**path) => {
            Some((path.len(), number))
        }
        _ => None,
    });
    let longest = ours.max_by_key(|(length, number)| (*length, Reverse(*number)));
    let longest = longest.filter(|(length, _)| theirs.is_none_or(|theirs| theirs < *length));
    let longest = longest.map(|(_, number)| number);
    if let Some(Location::First(_)) = longest.and_then(|number| locations.get(number)) {
        return longest;
    }
    let found = |one: &Location| match one {
        Location::Expression(pattern) => Regex::new(pattern.as_str()).unwrap().is_match(asked),
        _ => false,
    };
    place(&found).or(longest)
}

/// The same by rules: the first whose conditions hold.
fn answered(rules: &[Rule], asked: &str) -> Option<usize> {
    let found = |text: &str| Regex::new(text).unwrap().is_match(asked);
    let holds = |condition: &Condition| match &condition.test {
        Test::Is(text) => text.expose() == asked.as_bytes(),
        Test::Matches(text) => found(text),
        Test::MatchesNot(text) => !found(text),
        other => panic!("{other:?}"),
    };
    let rule = rules.iter().find(|rule| rule.when.iter().all(holds))?;
    match &rule.then[..] {
        [Step::Respond(reply)] => Some(usize::from(reply.status.as_u16() - 200)),
        other => panic!("{other:?}"),
    }
}

fn rule(number: usize, location: &Location) -> (Location, Rule) {
    let status = http::StatusCode::from_u16(200 + number as u16).unwrap();
    let reply = ir::Reply { status, body: Template::of([]), content_type: "text/plain".into() };
    let test = match location {
        Location::Exact(path) => Test::Is((&**path).into()),
        Location::First(path) | Location::Prefix(path) => {
            Test::Matches(format!("^{}", escape(path)).into())
        }
        Location::Expression(pattern) => Test::Matches(pattern.as_str().into()),
    };
    let value = Template::of([Piece::Variable(Variable::Uri)]);
    let when = vec![Condition { value, test }];
    (location.clone(), Rule { when, then: vec![Step::Respond(reply)] })
}

proptest! {
    #[test]
    fn a_request_gets_the_location_that_nginx_gives_it(
        locations in prop::collection::vec(location(), 1..6),
        paths in prop::collection::vec(path(), 0..4),
    ) {
        // What nginx refuses to load, and what is kept out here though nginx lets it through.
        let bare = |path: &str| path.trim_end_matches('/').replace(' ', "%20");
        let taken = |path: &RulePath| {
            locations.iter().filter_map(text).any(|one| bare(one) == bare(&path.text))
        };
        let twice = |number: usize| {
            let path = text(&locations[number]);
            path.is_some() && locations[..number].iter().any(|one| text(one) == path)
        };
        prop_assume!(!(0..locations.len()).any(twice));
        let paths: Vec<_> = paths.into_iter().filter(|path| !taken(path)).collect();
        let made: Vec<_> =
            locations.iter().enumerate().map(|(number, one)| rule(number, one)).collect();
        let made = rules(&made, &paths.iter().collect::<Vec<_>>());
        for asked in ASKED {
            let expected = expected(&locations, &paths, asked);
            prop_assert_eq!(answered(&made, asked), expected, "{}", asked);
        }
    }
}
