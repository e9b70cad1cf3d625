use std::collections::HashMap;

use http::HeaderValue;
use http::header::{AUTHORIZATION, COOKIE};
use proptest::prelude::*;

use super::*;

fn answer(status: u16) -> Answer {
    let status = StatusCode::from_u16(status).expect("a status");
    Answer { status, headers: HeaderMap::new(), vary: None }
}

fn at(seconds: u64) -> Moment {
    Moment(1).after(Duration::from_secs(seconds))
}

#[test]
fn parts_do_not_run_into_each_other_and_keys_differ() {
    let answers = Answers::default();
    let tag = answers.tag(["ab", "c"]);
    assert!(tag.is_some());
    assert_eq!(tag, answers.tag(["ab", "c"]));
    for other in [vec!["a", "bc"], vec!["abc"], vec!["ab", "c", ""], vec!["", "ab", "c"]] {
        assert_ne!(tag, answers.tag(&other), "{other:?}");
    }
    assert_ne!(tag, Answers::default().tag(["ab", "c"]), "another process");
}

#[test]
fn fields_of_several_names_are_kept_apart() {
    let answers = Answers::default();
    let names = [AUTHORIZATION, COOKIE];
    let of = |fields: &[(HeaderName, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        answers.tag_of(&names, &headers).expect("a tag")
    };
    let one = of(&[(AUTHORIZATION, "a"), (COOKIE, "b")]);
    assert_eq!(one, of(&[(COOKIE, "b"), (AUTHORIZATION, "a")]));
    assert_ne!(one, of(&[(AUTHORIZATION, "a"), (AUTHORIZATION, "b")]));
    assert_ne!(one, of(&[(COOKIE, "a"), (COOKIE, "b")]));
    assert_ne!(of(&[(AUTHORIZATION, "a")]), of(&[(COOKIE, "a")]));
    assert_ne!(of(&[(COOKIE, "")]), of(&[]));
}

#[test]
fn an_answer_that_varies_is_for_those_it_was_made_for() {
    let answers = Answers::default();
    let tag = answers.tag(["key"]).expect("a tag");
    let of =
        |cookie: &'static str| HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(cookie))]);
    let vary = answers.tag_of(&[COOKIE], &of("ann")).map(|tag| ([COOKIE].into(), tag));
    answers.keep(tag, Answer { vary, ..answer(200) }, Duration::from_secs(5), at(0));
    assert!(answers.find(tag, &of("ann"), at(1)).is_some());
    assert!(answers.find(tag, &of("bob"), at(1)).is_none());
    assert!(answers.find(tag, &HeaderMap::new(), at(1)).is_none());
}

#[test]
fn what_is_asked_for_stays_while_others_come_and_go() {
    let mut table = Table::new(8, 1 << 20);
    let tag = |number: u8| Tag([number; 32]);
    table.insert(tag(0), Rc::new(answer(200)), 300, at(100), at(0));
    for number in 1..100 {
        assert!(table.find(tag(0), at(0)).is_some(), "{number}");
        table.insert(tag(number), Rc::new(answer(401)), 300, at(100), at(0));
    }
    assert_eq!(table.slots.len(), 8);
}

#[derive(Clone, Debug)]
enum Step {
    Find(u8),
    Insert(u8, u16, usize, u64),
    Later(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u8..24).prop_map(Step::Find),
        (0u8..24, 200u16..600, 0usize..400, 0u64..20)
            .prop_map(|(tag, status, bytes, time)| Step::Insert(tag, status, bytes, time)),
        (0u64..6).prop_map(Step::Later),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Whatever happens: no more than there is room for, never another's answer nor one that is
    /// over, and what was just kept is there.
    #[test]
    fn the_table_never_says_what_it_was_not_told(steps in steps()) {
        const ENTRIES: usize = 8;
        const BYTES: usize = 4000;
        let mut table = Table::new(ENTRIES, BYTES);
        let mut told: HashMap<u8, (u16, Moment)> = HashMap::new();
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Later(seconds) => now = now.after(Duration::from_secs(seconds)),
                Step::Insert(tag, status, bytes, time) => {
                    let until = now.after(Duration::from_secs(time));
                    table.insert(Tag([tag; 32]), Rc::new(answer(status)), bytes, until, now);
                    told.insert(tag, (status, until));
                    let found = table.find(Tag([tag; 32]), now);
                    prop_assert_eq!(found.is_some(), bytes <= BYTES / 16 && until > now);
                }
                Step::Find(tag) => {
                    if let Some(found) = table.find(Tag([tag; 32]), now) {
                        let (status, until) = told.get(&tag).copied().expect("it was told");
                        prop_assert_eq!(found.status.as_u16(), status);
                        prop_assert!(until > now);
                    }
                }
            }
            prop_assert!(table.slots.len() <= ENTRIES && table.bytes <= BYTES);
            prop_assert_eq!(table.bytes, table.slots.iter().map(|slot| slot.bytes).sum::<usize>());
            prop_assert_eq!(table.places.len(), table.slots.len());
            for (place, slot) in table.slots.iter().enumerate() {
                prop_assert_eq!(table.places.get(&slot.tag), Some(&place));
            }
        }
    }
}
