//! Checks that the blocks of a file hold its values, each once, whatever stands between them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Every value of the blocks, with whether it was taken for a page.
fn values(text: &str, size: usize) -> Vec<(Value, bool)> {
    let mut blocks = Blocks { size, ..Blocks::new(Box::new(std::io::Cursor::new(text.to_owned()))) };
    let mut values = Vec::new();
    let mut spare = Vec::new();
    while let Some(block) = blocks.next(std::mem::take(&mut spare)).unwrap() {
        for chunk in &block.chunks {
            assert_eq!(
                block.line_at(0),
                1 + text[..text.find(line_of(&block)).unwrap()].matches('\n').count()
            );
            let parts = block.split(chunk);
            for part in if parts.len() > 1 { parts } else { vec![chunk.clone()] } {
                let stream = serde_json::Deserializer::from_slice(&block.bytes[part.span]);
                values.extend(stream.into_iter().map(|value| (value.unwrap(), part.is_page)));
            }
        }
        // Its memory still holds what it held.
        spare = block.bytes;
        spare.resize(size + spare.len() % 7, b'}');
    }
    values
}

fn line_of(block: &Block) -> &str {
    std::str::from_utf8(&block.bytes).unwrap()
}

/// The values that were found before an error, and it.
fn found(text: &str, size: usize) -> (Vec<Value>, Option<String>) {
    let mut blocks = Blocks { size, ..Blocks::new(Box::new(std::io::Cursor::new(text.to_owned()))) };
    let mut values = Vec::new();
    loop {
        match blocks.next(Vec::new()) {
            Ok(None) => return (values, None),
            Err(error) => return (values, Some(error.to_string())),
            Ok(Some(block)) => {
                for chunk in &block.chunks {
                    let stream = serde_json::Deserializer::from_slice(&block.bytes[chunk.span.clone()]);
                    values.extend(stream.into_iter().map(|value| value.unwrap()));
                }
            }
        }
    }
}

#[test]
fn an_array_that_is_none_is_an_error_and_not_taken_as_far_as_it_goes() {
    for (text, expected) in [
        ("[{}, {}", "the array that begins in line 1 does not end"),
        ("\n[", "the array that begins in line 2 does not end"),
        ("[{},", "the array that begins in line 1 does not end"),
        ("[{}, ]", "expected a JSON object, got \"]"),
        ("[{} {}]", "expected a comma or the end of the array, got \"{"),
        ("[{}\n{}]", "expected a comma or the end of the array, got \"{"),
        ("[, {}]", "expected a JSON object, got \","),
        ("[[{}]]", "expected a JSON object, got \"["),
        ("[{}, 1]", "expected a JSON object, got \"1"),
        ("[{}]]", "expected a JSON object, got \"]"),
        ("[{}, {\"a\": ", "the value that begins in line 1 does not end"),
    ] {
        for size in [1, 3, 5, 1000] {
            let (_, error) = found(text, size);
            assert!(error.as_ref().is_some_and(|e| e.contains(expected)), "{text} {size}: {error:?}");
        }
    }
    assert_eq!(found("[]", 1), (vec![], None));
    assert_eq!(found("[{\"a\": 1}]{\"a\": 2}\n[]\n{\"a\": 3}", 9).0.len(), 3);
}

fn lines_without_indent(value: &Value) -> serde_json::Result<String> {
    Ok(serde_json::to_string(value)?.replace("[{", "[\n{").replace("},{", "},\n{"))
}

#[test]
fn what_is_no_value_behind_others_is_handed_on_and_not_dropped() {
    let split = |rest: &str| {
        let text = format!("{{\"id\": 1}} {{\"id\": 2}} {rest}");
        let block = Block { bytes: text.clone().into_bytes(), line: 1, chunks: Vec::new() };
        let parts = block.split(&Chunk { span: 0..text.len(), is_page: false });
        (text, parts)
    };
    for rest in [", {\"id\": 3}", "{\"id\": {\"a\": 1}", "null"] {
        let (text, parts) = split(rest);
        let last = parts.last().unwrap();
        assert!(last.is_page, "{rest}: it is refused as a page");
        assert_eq!(text[last.span.clone()].trim(), rest);
    }
    // The chunk is refused whole.
    for rest in ["[{\"id\": 3}", "[{\"id\": 3},", "[[{\"id\": 3}]]"] {
        assert!(split(rest).1.is_empty(), "{rest}");
    }
}

proptest! {
    #[test]
    fn every_value_is_found_whatever_stands_between_them(
        values_and_gaps in proptest::collection::vec(
            (
                prop_oneof![
                    (0..99u32).prop_map(|n| json!({ "id": n, "x": "}\n{", "y": [{ "a": {} }, { "b": 1 }] })),
                    (0..99u32).prop_map(|n| json!({ "object": "list", "data": [{ "id": n }, { "id": 0 }] })),
                ],
                0usize..3,
                prop_oneof![Just("\n"), Just("\n\n"), Just("\r\n"), Just(" \n \t"), Just(""), Just(" ")],
            ),
            1..12,
        ),
        array in proptest::option::of((0usize..12, 0usize..12)),
        size in 1usize..300,
    ) {
        // One array holds the values from one to another.
        let array = array.map(|(first, n)| (first, first + n)).filter(|(_, last)| *last < values_and_gaps.len());
        let mut text = String::new();
        for (n, (value, style, gap)) in values_and_gaps.iter().enumerate() {
            let mut value = value.clone();
            value["n"] = json!(n);
            let text_of = [serde_json::to_string_pretty, serde_json::to_string, lines_without_indent][*style];
            text += if array.is_some_and(|(first, _)| n == first) { "[" } else { "" };
            text += &text_of(&value).unwrap();
            text += gap;
            text += match array {
                Some((first, last)) if (first..last).contains(&n) => ",",
                Some((_, last)) if n == last => "]",
                _ => "",
            };
            text += gap;
        }
        let found = values(&text, size);
        prop_assert_eq!(found.len(), values_and_gaps.len());
        for (n, ((value, is_page), (expected, _, _))) in found.iter().zip(&values_and_gaps).enumerate() {
            prop_assert_eq!(&value["n"], &json!(n));
            prop_assert_eq!(&value["id"], &expected["id"]);
            prop_assert_eq!(*is_page, expected["object"] == "list");
        }
    }
}
