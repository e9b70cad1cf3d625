use http::{HeaderName, Method};
use proptest::prelude::*;

use super::*;
use crate::ir::{Condition, Filter, HeaderEdit, HeaderTemplate, HeaderText, Scope, Test};

fn template(text: &str) -> Template {
    Template::parse_in(text, Scope { groups: 9, response: true }).expect("a template")
}

fn target(text: &str) -> RequestTarget {
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    RequestTarget::from_parts(path, query).expect("a target")
}

fn judged(rules: &[ir::Rule], asked: &str, fields: &[(&'static str, &str)]) -> (Verdict, Ruling) {
    judged_of(rules, target(asked), fields)
}

fn judged_of(
    rules: &[ir::Rule],
    asked: RequestTarget,
    fields: &[(&'static str, &str)],
) -> (Verdict, Ruling) {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).expect("a value"));
    }
    let facts = Facts {
        scheme: "http",
        host: "shop.example",
        http_host: HeaderValue::from_static("shop.example"),
        port: 80,
        protocol: "HTTP/1.1",
        target: &asked,
        asked: &asked,
        method: &Method::GET,
        headers: &headers,
        client: [10, 0, 0, 1].into(),
        peer: ([10, 0, 0, 1], 4711).into(),
        user: None,
        certificate: None,
        request_id: b"id",
        captures: &[],
    };
    let rules = Rules::new(rules).expect("sound rules").expect("some rules");
    let mut ruling = Ruling::default();
    let verdict = rules.judge(&facts, &mut ruling);
    (verdict, ruling)
}

fn when(value: &str, test: Test) -> Condition {
    Condition { value: template(value), test }
}

fn rule(when: impl IntoIterator<Item = Condition>, then: Step) -> ir::Rule {
    ir::Rule { when: when.into_iter().collect(), then: vec![then] }
}

type Step = ir::Step;

fn respond(status: u16, body: &str) -> Step {
    let status = StatusCode::from_u16(status).expect("a status");
    Step::Respond(ir::Reply { status, body: template(body), content_type: "text/plain".into() })
}

fn redirect(to: &str) -> Step {
    Step::Redirect(ir::RedirectTo { status: StatusCode::FOUND, to: template(to) })
}

fn rewrite(pattern: &str, path: &str, next: Next) -> Step {
    Step::Rewrite(ir::Rewrite { pattern: pattern.into(), path: template(path), next })
}

fn answer(rules: &[ir::Rule], asked: &str, fields: &[(&'static str, &str)]) -> Option<String> {
    judged(rules, asked, fields).1.answer.map(|answer| match answer {
        Answer::Response(status, _, body) => {
            format!("{} {}", status.as_u16(), String::from_utf8_lossy(&body))
        }
        Answer::Redirect(status, to) => {
            format!("{} {}", status.as_u16(), to.to_str().expect("text"))
        }
        Answer::Unsound => "unsound".to_owned(),
    })
}

#[test]
fn the_first_answer_counts() {
    let rules = [
        rule([when("{http_x_a}", Test::Is("1".into()))], respond(403, "no, {http_x_a}")),
        rule([when("{uri}", Test::Matches("^/old/([a-z]+)$".into()))], redirect("/new/{1}")),
        rule([when("{cookie_beta}", Test::True)], respond(200, "beta")),
        rule([when("{arg_v}", Test::MatchesNot("^[0-9]*$".into()))], respond(400, "")),
        rule([when("{request_method}", Test::IsNot("GET".into()))], respond(405, "")),
    ];
    let answer = |asked: &str, fields: &[(&'static str, &str)]| answer(&rules, asked, fields);
    assert_eq!(answer("/old/abc", &[("x-a", "1")]).as_deref(), Some("403 no, 1"));
    assert_eq!(answer("/old/abc", &[]).as_deref(), Some("302 /new/abc"));
    assert_eq!(answer("/x", &[("cookie", "beta=yes")]).as_deref(), Some("200 beta"));
    assert_eq!(answer("/x", &[("cookie", "beta=0")]), None);
    assert_eq!(answer("/x?v=a", &[]).as_deref(), Some("400 "));
    assert_eq!(answer("/x?v=1", &[]), None);
}

#[test]
fn a_rewrite_is_seen_by_the_rules_after_it() {
    let rules = [
        rule([], rewrite("^/a/(.*)$", "/b/{1}?from=a", Next::Continue)),
        rule([when("{uri}", Test::Matches("^/b/".into()))], rewrite("(.*)", "/c{1}", Next::Lookup)),
        rule([], respond(200, "{uri} {request_uri}")),
    ];
    let (verdict, ruling) = judged(&rules, "/a/x?q=1", &[]);
    assert_eq!(verdict, Verdict::Lookup);
    assert_eq!(ruling.target, Some(target("/c/b/x?from=a&q=1")));
    assert_eq!(answer(&rules, "/z?q", &[]).as_deref(), Some("200 /z /z?q"));
    let stop = [rule([], rewrite("^/a", "/b?", Next::Stop)), rule([], respond(200, ""))];
    let (verdict, ruling) = judged(&stop, "/a?q", &[]);
    assert_eq!((verdict, ruling.settled), (Verdict::Stop, true));
    assert_eq!(ruling.target, Some(target("/b")));
}

#[test]
fn nobody_gets_past_a_condition_by_an_encoded_slash() {
    let kept = |text: &'static str| {
        let path = http::uri::PathAndQuery::from_static(text);
        RequestTarget::parse(path, ir::EncodedSlashes::Keep).expect("a target")
    };
    let rules = [
        rule([when("{uri}", Test::Matches("^/admin/(.*)".into()))], respond(403, "{1}")),
        rule([], rewrite("^/old/(.*)$", "/new/{1}", Next::Continue)),
        rule([], rewrite("^/gone/.*$", "/", Next::Continue)),
        rule([when("{uri}", Test::Is("/new/a/b".into()))], respond(200, "{uri} {request_uri}")),
    ];
    let said = |asked| match judged_of(&rules, kept(asked), &[]).1 {
        Ruling { answer: Some(Answer::Response(status, _, body)), .. } => {
            format!("{} {}", status.as_u16(), String::from_utf8_lossy(&body))
        }
        Ruling { target, .. } => {
            target.map(|target| target.as_str().to_owned()).unwrap_or_default()
        }
    };
    assert_eq!(said("/admin%2Fx%2fy"), "403 x/y");
    assert_eq!(said("/x/admin%2Fx"), "");
    // What is forwarded keeps them.
    assert_eq!(said("/old/a%2Fc"), "/new/a%2Fc");
    assert_eq!(said("/old/a%2Fb"), "200 /new/a%2Fb /old/a%2Fb");
    assert_eq!(said("/gone%2Fx"), "/");
}

#[test]
fn nobody_gets_past_a_condition_by_other_escapes() {
    let is = |text: &str| when("{uri}", Test::Is(text.into()));
    let matches = |text: &str| when("{uri}", Test::Matches(text.into()));
    let rules = [
        rule([matches("^/secret files/(.*)")], respond(403, "{1}")),
        rule([is("/größe")], respond(401, "")),
        rule([when("{uri}", Test::MatchesNot("^/[^<>]*$".into()))], respond(400, "")),
        rule([when("{uri}", Test::IsNot("/a+b c".into())), is("/a+b%20c")], respond(500, "")),
        rule([matches("^/to (.*)$")], redirect("https://b.example/{1}")),
        rule([], rewrite("^/old stuff/(.*)$", "/new/{1}", Next::Stop)),
        rule([when("{request_uri}", Test::Matches(" ".into()))], respond(500, "")),
    ];
    let answer = |asked: &str| answer(&rules, asked, &[]);
    assert_eq!(answer("/secret%20files/a%20b%3Fc").as_deref(), Some("403 a%20b%3Fc"));
    assert_eq!(answer("/gr%C3%B6%c3%9Fe").as_deref(), Some("401 "));
    assert_eq!(answer("/x%3Cy").as_deref(), Some("400 "));
    assert_eq!(answer("/a+b%20c"), None);
    // What was captured is encoded as before.
    assert_eq!(answer("/to%20x%20y%0A%C3%9F"), None, "a line break, which a dot does not take");
    let there = Some("302 https://b.example/x%20y%C3%9F");
    assert_eq!(answer("/to%20x%20y%C3%9F").as_deref(), there);
    let (_, ruling) = judged(&rules, "/old%20stuff/a%3Fb%25?q", &[]);
    assert_eq!(ruling.target, Some(target("/new/a%3Fb%25?q")));
}

#[test]
fn what_comes_of_parts_of_the_request_stays_a_path_or_url() {
    let rules = [
        rule(
            [when("{http_x_to}", Test::Matches("^(.*)$".into()))],
            redirect("https://shop.example/{1}"),
        ),
        rule([], redirect("/")),
    ];
    let to = answer(&rules, "/", &[("x-to", "a b\"<x>")]);
    assert_eq!(to.as_deref(), Some("302 https://shop.example/a%20b%22%3Cx%3E"));
    let up = [rule([], rewrite("^/a(.*)$", "/safe/.{1}", Next::Continue))];
    assert_eq!(answer(&up, "/a./x", &[]).as_deref(), Some("unsound"));
}

#[test]
fn edits_are_made_of_the_request_as_it_was_judged() {
    let set = |value: &str| HeaderEdit {
        set_from: vec![HeaderTemplate {
            name: HeaderName::from_static("x-out"),
            template: template(value),
        }],
        ..HeaderEdit::default()
    };
    let found = when("{http_x_in}", Test::Matches("v([0-9]+)".into()));
    let edit = Step::Filter(Filter::RequestHeaders(set("{1}-{http_x_in}")));
    let status = Step::Filter(Filter::ResponseHeaders(set("{status}").into()));
    let rules = [rule([found], edit), rule([], status)];
    let (verdict, ruling) = judged(&rules, "/", &[("x-in", "a v12")]);
    assert_eq!(verdict, Verdict::Continue);
    let mut headers = HeaderMap::new();
    ruling.on_request(&mut headers);
    assert_eq!(headers["x-out"], "12-a v12");
    ruling.on_response(StatusCode::NOT_FOUND, &mut headers);
    assert_eq!(headers["x-out"], "404");
    let (_, ruling) = judged(&rules, "/", &[("x-in", "none")]);
    assert!(!ruling.edits_request() && ruling.edits_response());
}

#[test]
fn rules_that_cannot_be_are_refused() {
    assert!(Rules::new(&[rule([when("{uri}", Test::Matches("(".into()))], Step::Stop)]).is_err());
    assert!(Rules::new(&[rule([], rewrite("[", "/", Next::Stop))]).is_err());
    let large = "a{1000}{1000}";
    assert!(Rules::new(&[rule([], rewrite(large, "/", Next::Stop))]).is_err());
    assert!(Rules::new(&[]).is_ok_and(|rules| rules.is_none()));
}

/// What rules over one header and marks in it come to, told by hand: the oracle.
fn naive(rules: &[ir::Rule], field: &str) -> (Option<u16>, Vec<String>) {
    let mut captured = String::new();
    let mut added = Vec::new();
    for rule in rules {
        let mut all = true;
        for condition in &rule.when {
            let value = if condition.value == template("{http_x_a}") { field } else { &captured };
            all = match &condition.test {
                Test::True => !value.is_empty() && value != "0",
                Test::Is(text) => text.expose_str() == value,
                Test::IsNot(text) => text.expose_str() != value,
                Test::Matches(pattern) | Test::MatchesNot(pattern) => {
                    // Every pattern here is one letter in brackets.
                    let letter = pattern.trim_matches(['(', ')']);
                    let found = value.contains(letter);
                    if found && matches!(condition.test, Test::Matches(_)) {
                        captured = letter.to_owned();
                    }
                    found == matches!(condition.test, Test::Matches(_))
                }
            };
            if !all {
                break;
            }
        }
        if !all {
            continue;
        }
        for step in &rule.then {
            match step {
                Step::Respond(reply) => return (Some(reply.status.as_u16()), added),
                Step::Stop => return (None, added),
                Step::Filter(Filter::RequestHeaders(edit)) => match edit.add.first() {
                    Some(field) => added.push(field.value.to_str().expect("text").to_owned()),
                    None if captured.is_empty() => {}
                    None => added.push(captured.clone()),
                },
                other => panic!("not generated: {other:?}"),
            }
        }
    }
    (None, added)
}

fn condition() -> impl Strategy<Value = Condition> {
    let test = prop_oneof![
        Just(Test::True),
        "[0ab]{0,2}".prop_map(|text| Test::Is(ir::Text::from(&*text))),
        "[0ab]{0,2}".prop_map(|text| Test::IsNot(ir::Text::from(&*text))),
        "[abc]".prop_map(|letter| Test::Matches(format!("({letter})").into())),
        "[abc]".prop_map(|letter| Test::MatchesNot(format!("({letter})").into())),
    ];
    (prop::sample::select(vec!["{http_x_a}", "{1}"]), test)
        .prop_map(|(value, test)| when(value, test))
}

fn step() -> impl Strategy<Value = Step> {
    let field = HeaderName::from_static("x-added");
    let constant = {
        let name = field.clone();
        "[a-z]{1,3}".prop_map(move |text| {
            let value = HeaderValue::try_from(text).expect("a value");
            let add = vec![HeaderText { name: name.clone(), value }];
            Step::Filter(Filter::RequestHeaders(HeaderEdit { add, ..HeaderEdit::default() }))
        })
    };
    let open = HeaderTemplate { name: field, template: template("{1}") };
    let open = HeaderEdit { add_from: vec![open], ..HeaderEdit::default() };
    prop_oneof![
        4 => constant,
        2 => Just(Step::Filter(Filter::RequestHeaders(open))),
        1 => (200..600_u16).prop_map(|status| respond(status, "")),
        1 => Just(Step::Stop),
    ]
}

proptest! {
    #[test]
    fn rules_do_what_the_oracle_says(
        rules in prop::collection::vec(
            (prop::collection::vec(condition(), 0..3), prop::collection::vec(step(), 1..3))
                .prop_map(|(when, then)| ir::Rule { when, then }),
            1..8,
        ),
        field in "[0abc]{0,3}",
    ) {
        let (verdict, ruling) = judged(&rules, "/", &[("x-a", &field)]);
        let (status, added) = naive(&rules, &field);
        let answered = match &ruling.answer {
            Some(Answer::Response(status, ..)) => Some(status.as_u16()),
            _ => None,
        };
        prop_assert_eq!(answered, status);
        prop_assert_eq!(verdict == Verdict::Answered, status.is_some());
        let mut headers = HeaderMap::new();
        ruling.on_request(&mut headers);
        let got: Vec<_> =
            headers.get_all("x-added").iter().filter_map(|value| value.to_str().ok()).collect();
        prop_assert_eq!(got, added);
    }

    #[test]
    fn whatever_a_client_sends_nothing_ends_a_line_or_leaves_its_form(
        path in "/[ -~]{0,20}",
        value in prop::collection::vec(prop_oneof![0x20..0x7f_u8, 0x80..=0xff_u8], 0..30),
        to in prop::sample::select(vec!["/{1}", "{1}", "/x?{1}", "https://a{1}", "/{http_x_a}"]),
    ) {
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let Ok(asked) = RequestTarget::from_parts(path, Some(query)) else { return Ok(()) };
        let Ok(value) = std::str::from_utf8(&value) else { return Ok(()) };
        let Ok(field) = HeaderValue::from_str(value) else { return Ok(()) };
        let text = field.to_str().unwrap_or_default().to_owned();
        let found = || when("{http_x_a}{uri}", Test::Matches("(?s)(.*)".into()));
        let rules = [rule([found()], redirect(to))];
        if let Some(Answer::Redirect(_, to)) = judged(&rules, asked.as_str(), &[("x-a", &text)]).1.answer {
            prop_assert!(to.as_bytes().iter().all(u8::is_ascii_graphic), "{:?}", to);
        }
        let rules = [rule([found()], rewrite("(.*)", to, Next::Continue))];
        if let Some(target) = judged(&rules, asked.as_str(), &[("x-a", &text)]).1.target {
            let again = RequestTarget::from_parts(target.path(), target.query());
            prop_assert_eq!(again, Ok(target));
        }
    }
}
