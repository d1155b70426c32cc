//! Turns pages into frames, and expects what the envelope says of the same bytes.

use fastrand::Rng;
use proptest::prelude::*;
use stripelake::decode::frame::Frame;
use stripelake::decode::{Decoder, Options};
use stripelake::fake::{Account, Request, Spec};
use stripelake::fetch::envelope::Envelope;

use crate::agreement::{damage, damaged};
use crate::edits::{HOSTILE, REPEATING, VALID};
use crate::json::Style;
use crate::objects::{Page, cases, pages};

/// The frame of the page, if the fast decoder tells one. A few pages are decoded before it.
fn frame_of(page: &Page, body: &[u8]) -> Option<Frame> {
    let mut decoder = Decoder::new(&page.resource, &page.children, Options::default());
    for _ in 0..2 {
        let _ = decoder.push_page(page.list(Style::default()).as_bytes(), 1);
    }
    let pushed = decoder.push_page(body, 2);
    let frame = decoder.take_frame();
    assert!(pushed.is_ok() || frame.is_none(), "a page that is refused has a frame");
    frame
}

/// Returns whether the page has a frame.
fn check_frame(page: &Page, body: &[u8]) -> bool {
    let Some(Frame { has_more, ids, created, url }) = frame_of(page, body) else {
        return false;
    };
    let n_objects = ids.len();
    let told = Envelope { has_more, ids, n_objects, url, ..Envelope::default() }.with_created(created);
    assert_eq!(Ok(told), Envelope::parse(body), "{}", String::from_utf8_lossy(body));
    true
}

/// Members of the list that have a meaning, and some that look like them.
const MEMBERS: [&str; 14] = [
    r#""object":"list""#,
    r#""object":"list""#,
    r#""object":"search_result""#,
    r#""object":null"#,
    r#""obj\u0065ct":"list""#,
    r#""has_more":true"#,
    r#""has_more":false"#,
    r#""has_more":"true""#,
    r#""has_more":null"#,
    r#""has_mor\u0065":true"#,
    r#""url":"/v1/x""#,
    r#""url":"\/v1\/x""#,
    r#""url":null"#,
    r#""x\\y":[{"object":"list","has_more":true}]"#,
];

#[test]
fn every_page_without_anything_odd_has_a_frame() {
    let account = Account::new(Spec { charges: 250, customers: Some(150), ..Spec::default() });
    for name in ["charges", "customers", "subscriptions?status=all", "prices", "refunds"] {
        let url = format!("/v1/{name}{}limit=100", if name.contains('?') { "&" } else { "?" });
        let body = account.respond(&Request::get(&url, "rk_test_fake")).body;
        let catalog = crate::objects::catalog();
        let name = name.split('?').next().unwrap();
        let resource = catalog.get(name).unwrap().clone();
        let page =
            Page { resource, children: catalog.children_of(name).cloned().collect(), objects: Vec::new() };
        assert!(check_frame(&page, &body), "{name}");
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn a_frame_is_what_the_envelope_says_of_odd_pages(
        page in prop_oneof![pages(HOSTILE), pages(REPEATING)],
        seed in any::<u64>(),
        changes in prop::collection::vec(damage(), 0..3),
    ) {
        let odd = Style { spaces: Some(seed), shuffle: Some(seed), escapes: Some(seed) };
        for style in [Style::default(), odd] {
            check_frame(&page, &damaged(page.list(style).into_bytes(), &changes));
        }
    }

    #[test]
    fn no_list_that_the_envelope_refuses_has_a_frame(
        page in pages(VALID),
        odd in prop::collection::vec(prop::sample::select(&MEMBERS[..]), 0..3),
        seed in any::<u64>(),
    ) {
        let data = page.objects(Style::default()).replace("}\n{", "},{");
        let data = format!("\"data\":[{data}]");
        let mut members = [vec![MEMBERS[0], MEMBERS[6], &data], odd].concat();
        Rng::with_seed(seed).shuffle(&mut members);
        check_frame(&page, format!("{{{}}}", members.join(",")).as_bytes());
    }

    /// Stripe does not send that. A null is no value, wherever it stands; of two values neither is told.
    #[test]
    fn an_id_or_a_time_that_stands_twice_is_what_the_envelope_takes(
        odd in prop::collection::vec(prop::sample::select(&[
            r#""id":null"#, r#""id":7"#, r#""id":"b""#, r#""i\u0064":null"#,
            r#""created":null"#, r#""created":"5""#, r#""created":9223372036855"#, r#""created":6"#,
        ][..]), 0..3),
        seed in any::<u64>(),
    ) {
        let catalog = crate::objects::catalog();
        let resource = catalog.get("charges").unwrap().clone();
        let page = Page { resource, children: Vec::new(), objects: Vec::new() };
        let mut members = [vec![r#""id":"a""#, r#""created":5"#], odd].concat();
        Rng::with_seed(seed).shuffle(&mut members);
        let object = format!("{{{}}}", members.join(","));
        let body = format!(r#"{{"object":"list","data":[{object},{object}],"has_more":true}}"#);
        check_frame(&page, body.as_bytes());
    }
}
