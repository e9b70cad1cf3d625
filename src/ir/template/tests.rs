use proptest::prelude::*;

use super::*;

#[test]
fn names_stand_in_braces() {
    let text = "https://{host}/a?rd={escaped_request_uri}&u={http_x_user}{cookie_sid}{arg_q}$";
    let template = Template::parse(text).expect("sound");
    assert_eq!(template.to_string(), text);
    assert_eq!(template.variables().count(), 5);
    assert_eq!(Template::parse("{{a}}").expect("sound").as_literal(), Some("{a}"));
}

#[test]
fn parts_of_the_route_are_put_in() {
    let template = Template::of([
        Piece::Literal("a-".into()),
        Piece::Variable(Variable::Site(Site::Service)),
        Piece::Literal(".b".into()),
    ]);
    assert_eq!(template.bind(&|_| "shop".into()), Template::literal("a-shop.b"));
}

#[test]
fn what_is_no_template_is_refused() {
    for (text, error) in [
        ("{host", TemplateError::Brace),
        ("host}", TemplateError::Brace),
        ("{hosts}", TemplateError::Unknown("hosts".into())),
        ("{http_}", TemplateError::Unknown("http_".into())),
        ("{1}", TemplateError::Unknown("1".into())),
        ("{sent_http_etag}", TemplateError::Unknown("sent_http_etag".into())),
        ("{status}", TemplateError::Unknown("status".into())),
        ("{cookie_a b}", TemplateError::Unknown("cookie_a b".into())),
        ("a\r\nb", TemplateError::Control),
    ] {
        assert_eq!(Template::parse(text), Err(error), "{text}");
    }
}

#[test]
fn a_secret_is_never_shown() {
    let template = Template::parse("key-{host}").expect("sound").hidden(true);
    assert_eq!(format!("{template} {template:?}").matches("key").count(), 0);
    assert_eq!(serde_json::to_string(&template).expect("JSON"), "\"<redacted>\"");
}

fn variable() -> impl Strategy<Value = Variable> {
    prop_oneof![
        (0..PLAIN.len()).prop_map(|at| PLAIN[at].1.clone()),
        "[a-z0-9_]{1,8}".prop_map(|name| Variable::Arg(name.into())),
        "[a-zA-Z_]{1,8}".prop_map(|name| Variable::Cookie(name.into())),
        "x(-[a-z]{1,4}){1,3}".prop_map(|name| Variable::Header(name.parse().unwrap())),
        "x(-[a-z]{1,4}){1,3}".prop_map(|name| Variable::ResponseHeader(name.parse().unwrap())),
        (1..=9_u8).prop_map(Variable::Capture),
    ]
}

proptest! {
    #[test]
    fn what_is_written_out_is_read_back(pieces in prop::collection::vec(
        prop_oneof![
            "[ -~ö]{1,6}".prop_map(|text| Piece::Literal(text.into())),
            variable().prop_map(Piece::Variable),
        ],
        0..8,
    )) {
        let template = Template::of(pieces);
        let everywhere = Scope { groups: 9, response: true };
        prop_assert_eq!(Template::parse_in(&template.to_string(), everywhere), Ok(template));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[{}$a-z_\\PC]{0,30}") {
        if let Ok(template) = Template::parse(&text) {
            prop_assert_eq!(template.to_string(), text);
        }
    }
}
