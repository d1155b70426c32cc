//! Tells whether two JSON texts say the same.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decode::json_text::Members;

/// Whether they differ only in the order of members, in white space, and in how text is escaped. Numbers are compared as they
/// are written. Members of one name keep their order; what is no JSON is the same as nothing.
pub fn is_same(a: &str, b: &str) -> bool {
    says_same(a, b) == Some(true)
}

fn says_same(a: &str, b: &str) -> Option<bool> {
    let kind = |text: &str| text.bytes().next();
    match (kind(a)?, kind(b)?) {
        (b'{', b'{') => {
            let (a, b) = (members(a)?, members(b)?);
            let mut pairs = a.iter().zip(&b);
            let is_same =
                a.len() == b.len() && pairs.all(|(a, b)| a.0 == b.0 && is_same(a.1.get(), b.1.get()));
            Some(is_same)
        }
        (b'[', b'[') => {
            let (a, b): (Vec<&RawValue>, Vec<&RawValue>) = (read(a)?, read(b)?);
            Some(a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| is_same(a.get(), b.get())))
        }
        (b'"', b'"') => Some(read::<String>(a)? == read::<String>(b)?),
        _ => Some(a == b),
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// By their names, those of one name as they come.
fn members(text: &str) -> Option<Vec<(String, &RawValue)>> {
    let Members(mut members) = read(text)?;
    members.sort_by(|a, b| a.0.cmp(&b.0));
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-9i64..9).prop_map(Value::from),
            "[a-cé\"\\\\]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-d]", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Written with the members from last to first, and with every letter escaped that may be.
    fn otherwise(value: &Value) -> String {
        let text = |text: &str| {
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            format!("\"{escaped}\"")
        };
        match value {
            Value::Object(members) => {
                let members: Vec<String> = members
                    .iter()
                    .rev()
                    .map(|(name, value)| format!("{} : {}", text(name), otherwise(value)))
                    .collect();
                format!("{{{}}}", members.join(","))
            }
            Value::Array(items) => {
                format!("[{}]", items.iter().map(otherwise).collect::<Vec<_>>().join(" ,"))
            }
            Value::String(string) => text(string),
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_values(a in json(), b in json()) {
            // Objects of serde_json are the same in any order.
            prop_assert_eq!(is_same(&a.to_string(), &b.to_string()), a == b);
            prop_assert_eq!(is_same(&a.to_string(), &otherwise(&b)), a == b);
            prop_assert!(is_same(&a.to_string(), &otherwise(&a)));
        }
    }

    #[test]
    fn what_is_written_otherwise_may_be_another_value() {
        assert!(!is_same("1.0", "1.00"));
        assert!(!is_same(r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#));
        assert!(is_same(r#"{"a":1,"b":0,"a":2}"#, r#"{"b":0,"a":1,"a":2}"#));
        assert!(!is_same("", ""));
        assert!(!is_same(r#"{"a":1}"#, r#"{"a":1"#));
    }
}
