//! The fast decoder gives what the plain one gives, page by page.

use std::sync::Arc;

use crate::catalog::{Catalog, Resource};
use crate::decode::{Decoded, Decoder, Options, PageError, Path, Pushed};

struct Both {
    fast: Decoder,
    plain: Decoder,
}

impl Both {
    fn new(name: &str) -> Both {
        let catalog = Catalog::embedded().unwrap();
        let resource = catalog.get(name).unwrap().clone();
        let children: Vec<Arc<Resource>> = catalog.children_of(name).cloned().collect();
        let decoder = |path| {
            Decoder::new(
                &resource,
                &children,
                Options { livemode: Some(false), refuse_other_mode: true, path },
            )
        };
        Both { fast: decoder(Path::Fast), plain: decoder(Path::Plain) }
    }

    /// Decodes a page both ways, and returns what the fast way brought.
    fn check_page(&mut self, body: &[u8]) -> Result<(Pushed, Decoded), PageError> {
        let fast = self.fast.push_page(body, 1);
        let plain = self.plain.push_page(body, 1);
        let (a, b) = (self.fast.flush(), self.plain.flush());
        let shown = String::from_utf8_lossy(&body[..body.len().min(2000)]).into_owned();
        assert_eq!(a.parent, b.parent, "{shown}");
        assert_eq!(a.children, b.children, "{shown}");
        assert_eq!(a.findings, b.findings, "{shown}");
        match (fast, plain) {
            (Ok(fast), Ok(plain)) => {
                assert_eq!(fast.n_rows, plain.n_rows, "{shown}");
                assert_eq!(fast.rejected, plain.rejected, "{shown}");
                assert_eq!(format!("{:?}", fast.open_lists), format!("{:?}", plain.open_lists));
                Ok((fast, a))
            }
            (Err(PageError::Malformed { .. }), Err(plain @ PageError::Malformed { .. })) => Err(plain),
            (Err(fast), Err(plain)) => {
                assert_eq!(fast, plain, "{shown}");
                Err(fast)
            }
            (fast, plain) => panic!("fast {fast:?}, plain {plain:?}: {shown}"),
        }
    }

    fn check_object(&mut self, object: &str) -> Result<(Pushed, Decoded), PageError> {
        let usual = r#"{"id":"ch_0","object":"charge","created":5}"#;
        for page in [
            format!(r#"{{"object":"list","data":[{usual},{object},{usual}],"has_more":false}}"#),
            format!("{{\n  \"data\" : [\n    {object} ,{object}]\n , \"object\": \"list\"}}"),
        ] {
            self.check_page(page.as_bytes())?;
        }
        self.check_page(format!(r#"{{"data":[{object}]}}"#).as_bytes())
    }
}

#[test]
fn unusual_objects_are_decoded_alike() {
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    let objects = [
        r#"{"id":"ch_1","object":"charge","created":1,"amount":1,"amount":2}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"amount":null,"amount":2,"new":{"a":[1, 2]},"outcome":{"type":"x","odd":1e400,"more":{}}}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"amount":9223372036854775808,"captured":"yes","currency":5,"outcome":3}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"customer":{"id":"cus_1","name":"x","client_secret":"s"}}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"customer":{"name":"x"},"my_client_secret":"s"}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"metadata":{"a":"1","a":"2","b":null,"c":4,"d\n":"\u00e9"}}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"metadata":[]}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"payment_method_details":{"type":"blik","blik":{ "a" : 1 },"card":{"brand":"visa","zzz":[true , null]},"zip":{}}}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"payment_method_details":{"blik":1},"payment_method_details":{"blik":2}}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"description":"\ud800"}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"new":"\udc00"}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"description":"a\u0000\ud83d\ude00\"\\\/"}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"desc\u0072iption":"x"}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge"}"#.to_owned(),
        r#"{"id":"","object":"charge","created":1}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":"1"}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":-1}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":253402300799}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"livemode":true}"#.to_owned(),
        r#"{"id":"ch_1","object":"charge","created":1,"deleted":true}"#.to_owned(),
        r#"{"id":"ch_1","object":"refund","created":1}"#.to_owned(),
        r#"{"id":"ch_1","created":1}"#.to_owned(),
        "3".to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        format!(r#"{{"id":"ch_1","object":"charge","created":1,"new":{}}}"#, deep(127)),
        format!(r#"{{"id":"ch_1","object":"charge","created":1,"new":{}}}"#, deep(128)),
        format!(r#"{{"id":"ch_1","object":"charge","created":1,"outcome":{{"new":{}}}}}"#, deep(126)),
        format!(r#"{{"id":"ch_1","object":"charge","created":1,"outcome":{{"new":{}}}}}"#, deep(127)),
        format!(r#"{{"id":"ch_1","object":"charge","created":1,"source":{}}}"#, deep(100_000)),
    ];
    let mut both = Both::new("charges");
    for object in &objects {
        let _ = both.check_object(object);
    }
}

#[test]
fn broken_pages_are_refused_alike() {
    let mut both = Both::new("charges");
    let good = r#"{"object":"list","data":[{"id":"ch_1","object":"charge","created":1,"metadata":{"a":"b"},"amount":12,"captured":true,"description":"x"}],"has_more":false}"#;
    assert_eq!(both.check_page(good.as_bytes()).unwrap().0.n_rows, 1);
    for end in 0..good.len() {
        assert!(both.check_page(&good.as_bytes()[..end]).is_err(), "{end}");
    }
    for at in 0..good.len() {
        for byte in [b' ', b'"', b'}', b',', b'0', b'\\', b'\n', b'x', 0xff] {
            let mut page = good.as_bytes().to_vec();
            page[at] = byte;
            let _ = both.check_page(&page);
            page.insert(at, byte);
            let _ = both.check_page(&page);
        }
    }
}

#[test]
fn the_fakes_pages_are_decoded_alike() {
    use crate::fake::{Account, Request, Spec};
    let account = Account::new(Spec { charges: 600, ..Spec::default() });
    for name in ["charges", "customers", "prices", "refunds", "balance_transactions", "subscriptions"] {
        let mut both = Both::new(name);
        let all = if name == "subscriptions" { "&status=all" } else { "" };
        let response = account.respond(&Request::get(&format!("/v1/{name}?limit=100{all}"), "rk_test_x"));
        let (pushed, decoded) = both.check_page(&response.body).unwrap();
        assert!(pushed.n_rows > 0, "{name}");
        assert!(decoded.findings.is_empty(), "{:?}", decoded.findings);
        let compact: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        both.check_page(compact.to_string().as_bytes()).unwrap();
        both.check_page(&response.body).unwrap();
    }
}

#[test]
fn embedded_lists_are_decoded_alike() {
    let mut both = Both::new("subscriptions");
    let item = |id: &str, more: &str| {
        format!(r#"{{"id":"{id}","object":"subscription_item","created":7,"price":{{"id":"p"}}{more}}}"#)
    };
    for (items, has_more) in [
        (String::new(), "false"),
        (item("si_1", ""), "true"),
        (
            format!(
                "{},{}",
                item("si_1", r#","new":1"#),
                item("si_2", r#","tax_rates":[{"id":"t","odd":1}]"#)
            ),
            "false",
        ),
        (format!("{},{}", item("si_1", r#","new":1"#), item("", "")), "false"),
        (item("si_1", ""), "1"),
    ] {
        for more in ["", r#","total_count":1,"url":"/v1/x?y=1""#, r#","odd":1"#] {
            let object = format!(
                r#"{{"items":{{"object":"list","data":[{items}],"has_more":{has_more}{more}}},"id":"sub_1","object":"subscription","created":5}}"#
            );
            let _ = both.check_page(format!(r#"{{"data":[{object},{object}]}}"#).as_bytes());
        }
    }
    for items in
        ["null", "3", "{}", "[]", r#"{"data":3,"has_more":false}"#, r#"{"data":[3],"has_more":false}"#]
    {
        let object = format!(r#"{{"id":"sub_1","object":"subscription","created":5,"items":{items}}}"#);
        let _ = both.check_page(format!(r#"{{"data":[{object},{object}]}}"#).as_bytes());
    }
    for items in [r#"{"data":[],"has_more":false,}"#, r#"{"data":[],,"has_more":false}"#, r#"{,}"#] {
        let object = format!(r#"{{"id":"sub_1","object":"subscription","created":5,"items":{items}}}"#);
        assert!(both.check_page(format!(r#"{{"data":[{object}]}}"#).as_bytes()).is_err(), "{items}");
    }
}

#[test]
fn lists_that_go_on_are_reported_alike() {
    use crate::fake::{Account, Request, Spec};
    let spec = Spec { charges: 20, customers: Some(100), subscriptions: Some(700), ..Spec::default() };
    let account = Account::new(spec);
    let mut both = Both::new("subscriptions");
    let (mut cursor, mut n_open) = (String::new(), 0);
    loop {
        let url = format!("/v1/subscriptions?limit=100&status=all{cursor}");
        let body = account.respond(&Request::get(&url, "rk_test_x")).body;
        let (pushed, _) = both.check_page(&body).unwrap();
        n_open += pushed.open_lists.len();
        let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
        if page["has_more"] == false {
            break;
        }
        let last = page["data"].as_array().unwrap().last().unwrap();
        cursor = format!("&starting_after={}", last["id"].as_str().unwrap());
    }
    assert!(n_open > 0);
}
