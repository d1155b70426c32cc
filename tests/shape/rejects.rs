//! Turns pages with broken objects into rows and rejects: the broken byte for byte but for credentials, the others as rows.

use arrow::array::AsArray;
use proptest::prelude::*;
use stripelake::catalog::LONGEST_ID;
use stripelake::decode::{Options, PageError, Rejected};

use crate::decoders::{Make, OBSERVED_AT, decode, for_each_decoder};
use crate::edits::HOSTILE;
use crate::json::{Json, Style, number, object, text, write};
use crate::objects::{Page, begin, cases, catalog, embedded, pages};
use crate::values::nested;

/// Puts broken objects between good ones and expects exactly the broken ones back.
fn check_rejected(make: Make, page: &Page, broken: &[Vec<u8>]) {
    let mut body = b"{\"object\":\"list\",\"data\":[ ".to_vec();
    let good = page.objects.iter().map(|object| write(object, Style::default()).into_bytes());
    let mut all: Vec<Vec<u8>> = good.collect();
    for (n, raw) in broken.iter().enumerate() {
        all.insert((n * 2).min(all.len()), raw.clone());
    }
    body.extend(all.join(&b" ,\n"[..]));
    body.extend(b"],\"has_more\":false,\"url\":\"/v1/x\"}");

    let (pushed, decoded) = decode(make, page, &body).unwrap();
    let raw: Vec<Vec<u8>> = pushed.rejected.iter().map(|r: &Rejected| r.raw.clone()).collect();
    let kept = |raw: &Vec<u8>| Rejected::new("", String::new(), raw).raw;
    assert!(raw == broken.iter().map(kept).collect::<Vec<_>>(), "{:?}", pushed.rejected);
    assert!(pushed.rejected.iter().all(|r| r.resource == page.resource.name && !r.reason.is_empty()));
    assert_eq!(pushed.n_rows, page.objects.len());

    // The rows are those of the page without the broken objects, whatever these had already written.
    let (_, alone) = decode(make, page, page.list(Style::default()).as_bytes()).unwrap();
    assert_eq!(decoded.parent, alone.parent);
    assert_eq!(decoded.children, alone.children);
}

/// Makes a good object one that cannot be a row.
fn breakages(page: &Page, sort: usize, n: usize) -> Vec<u8> {
    let mut victim = page.objects[n % page.objects.len()].clone();
    let key = |name: &str| vec![name.to_owned()];
    let mut raw = None;
    match sort {
        0 => victim.remove(&key("id")),
        1 => victim.set(&key("id"), Json::Null),
        2 => victim.set(&key("id"), number(5)),
        3 => victim.set(&key("id"), text("")),
        4 => victim.set(&key("id"), text(&"x".repeat(LONGEST_ID + 1))),
        5 => victim.remove(&key("created")),
        6 => victim.set(&key("created"), Json::Null),
        7 => victim.set(&key("created"), text("1679090500")),
        8 => victim.set(&key("created"), number(-1)),
        9 => victim.set(&key("created"), number(253_402_300_799i64)),
        10 => victim.set(&key("created"), number("1679090500.0")),
        11 => victim.set(&key("created"), number("18446744073709551616")),
        12 => victim.set(&key("created"), object([])),
        13 => victim.set(&key("~deep"), nested(128, n.is_multiple_of(2))),
        14 => victim.set(&key("~deep"), nested(200, n.is_multiple_of(2))),
        15 => victim.set(&key("~deep"), nested(100_000, n.is_multiple_of(2))),
        16 => victim.set(&key("metadata"), object([("a", nested(127, true))])),
        17 => victim.set(&key("currency"), Json::Raw("\"half \\ud83d of it\"".to_owned())),
        18 => victim.set(&key("~new"), Json::Raw("[\"\\ude00\"]".to_owned())),
        19 => victim.set(&key("~new"), Json::Raw("{\"\\ud83d\\u0041\":1}".to_owned())),
        20 => raw = Some(b"5".to_vec()),
        21 => raw = Some(b"null".to_vec()),
        22 => raw = Some(b"[]".to_vec()),
        23 => raw = Some(b"\"ch_1\"".to_vec()),
        24 => raw = Some(b"{}".to_vec()),
        _ => raw = Some([b"{\"id\":\"b\",\"created\":5,\"~n\":\"\xff\xfe \xc3\"}".as_slice()].concat()),
    }
    raw.unwrap_or_else(|| write(&victim, Style::default()).into_bytes())
}

const SORTS: usize = 26;

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn a_broken_object_is_handed_back_as_sent_and_the_others_are_rows(
        page in pages(HOSTILE),
        sorts in prop::collection::vec((0..SORTS, 0usize..4), 1..5),
    ) {
        for_each_decoder(|make| {
            let broken: Vec<Vec<u8>> = sorts.iter().map(|(sort, n)| breakages(&page, *sort, *n)).collect();
            check_rejected(make, &page, &broken);
        });
    }
}

fn good_charge() -> Page {
    let resource = catalog().get("charges").unwrap().clone();
    let charge = begin(&resource, "ch_1", 1_679_090_500, Some(1));
    Page { resource, children: Vec::new(), objects: vec![charge] }
}

#[test]
fn every_sort_of_broken_object_is_handed_back() {
    for_each_decoder(|make| {
        for sort in 0..SORTS {
            check_rejected(make, &good_charge(), &[breakages(&good_charge(), sort, 0)]);
        }
    });
}

#[test]
fn nesting_is_believed_to_128_levels_and_no_further() {
    for (depth, is_row) in
        [(99, true), (126, true), (127, true), (128, false), (199, false), (100_000, false)]
    {
        for is_array in [true, false] {
            let mut page = good_charge();
            page.objects[0].set(&["~deep".to_owned()], nested(depth, is_array));
            for_each_decoder(|make| {
                let (pushed, _) = decode(make, &page, page.list(Style::default()).as_bytes()).unwrap();
                assert_eq!((pushed.n_rows == 1, pushed.rejected.is_empty()), (is_row, is_row), "{depth}");
            });
        }
    }
}

#[test]
fn deep_nesting_needs_no_deep_stack() {
    let mut page = good_charge();
    page.objects[0].set(&["~deep".to_owned()], nested(100_000, false));
    let body = page.list(Style::default());
    let small = std::thread::Builder::new().stack_size(512 << 10);
    let decoded = small.spawn(move || {
        for_each_decoder(|make| {
            decode(make, &page, body.as_bytes()).unwrap();
        })
    });
    decoded.unwrap().join().unwrap();
}

#[test]
fn a_parent_whose_embedded_list_is_broken_is_handed_back_with_all_of_it() {
    let catalog = catalog();
    let resource = catalog.get("subscriptions").unwrap().clone();
    let children: Vec<_> = catalog.children_of("subscriptions").cloned().collect();
    let path = children[0].parent.as_ref().unwrap().path.clone();
    let item = |id: &str| begin(&children[0], id, 1_679_090_500, Some(2));
    let subscription = |id: &str, items: Json| {
        let mut object = begin(&resource, id, 1_679_090_500, Some(3));
        object.set(&path, items);
        object
    };
    let mut no_id = item("si_3");
    no_id.remove(&["id".to_owned()]);
    let broken = [
        subscription("sub_2", embedded(vec![item("si_2"), no_id], false)),
        subscription("sub_3", object([("data", Json::Array(vec![]))])),
        subscription("sub_4", object([("has_more", Json::Bool(false))])),
        subscription("sub_5", embedded(vec![item("si_5"), number(5)], false)),
    ];
    let broken: Vec<Vec<u8>> = broken.iter().map(|o| write(o, Style::default()).into_bytes()).collect();
    let good = vec![
        subscription("sub_0", embedded(vec![item("si_0")], false)),
        subscription("sub_1", embedded(vec![item("si_1")], false)),
    ];
    let page = Page { resource: resource.clone(), children: children.clone(), objects: good };
    for_each_decoder(|make| check_rejected(make, &page, &broken));
}

#[test]
fn an_embedded_list_that_goes_on_is_announced() {
    let catalog = catalog();
    let resource = catalog.get("subscriptions").unwrap().clone();
    let children: Vec<_> = catalog.children_of("subscriptions").cloned().collect();
    let item = begin(&children[0], "si_1", 1_679_090_500, None);
    let mut subscription = begin(&resource, "sub_1", 1_679_090_500, None);
    subscription.set(&children[0].parent.as_ref().unwrap().path, embedded(vec![item], true));
    let page = Page { resource, children, objects: vec![subscription] };
    for_each_decoder(|make| {
        let mut decoder = make(&page.resource, &page.children, Options::default());
        let pushed = decoder.push_page(page.list(Style::default()).as_bytes(), OBSERVED_AT).unwrap();
        let open = &pushed.open_lists[0];
        assert_eq!(
            (open.child, open.parent.id.as_str(), &open.embedded[..]),
            (0, "sub_1", &["si_1".to_owned()][..])
        );
        assert_eq!(open.url, "/v1/things?of=this");
        let rest = br#"{"data":[{"id":"si_2","created":5}],"has_more":false}"#;
        assert_eq!(decoder.push_child_page(0, &open.parent, rest, OBSERVED_AT).unwrap().n_rows, 1);
        let items = decoder.flush().children.remove(0).unwrap();
        let parents = items.column_by_name("subscription").unwrap().as_string::<i32>().clone();
        assert_eq!(parents.iter().collect::<Vec<_>>(), [Some("sub_1"), Some("sub_1")]);
    });
}

/// Expects the page to be refused and the decoder to hold only what it held before.
fn check_refused(body: &str, options: Options, is_expected: fn(&PageError) -> bool) {
    let page = good_charge();
    for_each_decoder(|make| {
        let before = page.list(Style::default());
        let mut alone = make(&page.resource, &[], options);
        alone.push_page(before.as_bytes(), OBSERVED_AT).unwrap();
        let mut decoder = make(&page.resource, &[], options);
        decoder.push_page(before.as_bytes(), OBSERVED_AT).unwrap();
        let error = decoder.push_page(body.as_bytes(), OBSERVED_AT).unwrap_err();
        assert!(is_expected(&error), "{error}");
        let (decoded, alone) = (decoder.flush(), alone.flush());
        assert_eq!(decoded.parent, alone.parent);
        assert_eq!(decoded.findings, alone.findings);
    });
}

#[test]
fn a_page_that_is_not_what_was_asked_for_is_refused_whole() {
    let page = |objects: &str| format!("{{\"data\":[{objects}],\"has_more\":false}}");
    let good = r#"{"id":"ch_2","object":"charge","created":5,"~new":1}"#;
    let other = good.replace("\"charge\"", "\"refund\"");
    let is_wrong_object = |e: &PageError| matches!(e, PageError::WrongObject { row: 1, .. });
    check_refused(&page(&format!("{good},{other}")), Options::default(), is_wrong_object);

    let live = r#"{"id":"ch_3","object":"charge","created":5,"livemode":true}"#;
    let test_mode = Options { livemode: Some(false), refuse_other_mode: true, ..Options::default() };
    let is_wrong_mode = |e: &PageError| matches!(e, PageError::WrongMode { row: 1, livemode: true, .. });
    check_refused(&page(&format!("{good},{live}")), test_mode, is_wrong_mode);

    let is_malformed = |e: &PageError| matches!(e, PageError::Malformed { .. });
    for body in [
        &page(good)[..30],
        "",
        "[]",
        "{}",
        "{\"data\":{}}",
        "{\"data\":null}",
        &page(&format!("{good},")),
        &page(&good.replace("charge", "char\nge")),
        &page(&good.replace('5', "05")),
        &format!("{}x", page(good)),
    ] {
        check_refused(body, Options::default(), is_malformed);
    }
}

#[test]
fn livemode_is_stamped_where_it_is_missing_and_kept_where_it_is_stated() {
    for_each_decoder(|make| {
        let resource = catalog().get("charges").unwrap().clone();
        let options = Options { livemode: Some(true), refuse_other_mode: false, ..Options::default() };
        let mut decoder = make(&resource, &[], options);
        let body = br#"{"id":"a","created":1} {"id":"b","created":1,"livemode":false} {"id":"c","created":1,"livemode":null}"#;
        decoder.push_objects(body, OBSERVED_AT).unwrap();
        let batch = decoder.flush().parent.unwrap();
        let livemode = batch.column_by_name("livemode").unwrap().as_boolean().clone();
        assert_eq!(livemode.iter().collect::<Vec<_>>(), [Some(true), Some(false), Some(true)]);
    });
}

#[test]
fn what_is_handed_back_holds_no_credentials() {
    let raw = r#"{"id":"ch_9","object":"charge","created":-1,"x":{"client_secret":"CANARY"},"client\u005fsecret":"CANARY"}"#;
    let page = good_charge();
    for_each_decoder(|make| {
        let mut decoder = make(&page.resource, &[], Options::default());
        let pushed = decoder.push_objects(raw.as_bytes(), OBSERVED_AT).unwrap();
        let kept = String::from_utf8(pushed.rejected[0].raw.clone()).unwrap();
        assert_eq!(kept, raw.replace("\"CANARY\"", "null"));
    });
}

#[test]
fn a_list_that_comes_twice_has_the_rows_of_the_first_and_keeps_the_second() {
    let catalog = catalog();
    let resource = catalog.get("subscriptions").unwrap().clone();
    let children: Vec<_> = catalog.children_of("subscriptions").cloned().collect();
    let items = |id: &str| {
        format!(r#""items":{{"object":"list","data":[{{"id":"{id}","created":5}}],"has_more":false}}"#)
    };
    let raw = format!(
        r#"{{"id":"sub_1","object":"subscription","created":5,{},{}}}"#,
        items("si_1"),
        items("si_2")
    );
    for_each_decoder(|make| {
        let mut decoder = make(&resource, &children, Options::default());
        assert_eq!(decoder.push_objects(raw.as_bytes(), OBSERVED_AT).unwrap().n_rows, 1);
        let decoded = decoder.flush();
        let rows = decoded.children[0].as_ref().unwrap();
        assert_eq!(
            rows.column_by_name("id").unwrap().as_string::<i32>().iter().collect::<Vec<_>>(),
            [Some("si_1")]
        );
        let extra =
            decoded.parent.unwrap().column_by_name("_extra").unwrap().as_string::<i32>().value(0).to_owned();
        assert!(extra.contains("si_2") && !extra.contains("si_1"), "{extra}");
    });
}

#[test]
fn p1_bytes_that_are_no_text_outside_of_objects_break_the_page() {
    let page = good_charge();
    let good = br#"{"object":"list","data":[{"id":"ch_1","object":"charge","created":5}],"has_more":false,"url":"/v1/~","~":1}"#;
    for_each_decoder(|make| {
        for at in good.iter().enumerate().filter(|(_, byte)| **byte == b'~').map(|(at, _)| at) {
            let mut body = good.to_vec();
            body[at] = 0xff;
            let mut decoder = make(&page.resource, &[], Options::default());
            let error = decoder.push_page(&body, OBSERVED_AT).unwrap_err();
            assert!(error.to_string().contains("expected UTF-8"), "{error}");
        }
    });
}

#[test]
fn a_broken_page_is_refused_with_the_path_to_where_it_breaks() {
    let page = good_charge();
    let object = r#"{"id":"ch_1","object":"charge","created":5,"outcome":{"a":1,"rule":01}}"#;
    let body = format!("{{\"data\":[{},{object}],\"has_more\":false}}", object.replace("01", "1"));
    for_each_decoder(|make| {
        let error = make(&page.resource, &[], Options::default())
            .push_page(body.as_bytes(), OBSERVED_AT)
            .unwrap_err();
        assert!(error.to_string().starts_with("line 1: data[1].outcome.rule: "), "{error}");
    });
}
