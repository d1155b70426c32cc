//! Turns a JSON object into one that says its own checksum, and tells whether it still holds.

use crate::crc::crc32_of;

const BEFORE: &[u8] = b",\n  \"crc32\": \"";
const BEHIND: &[u8] = b"\"\n}\n";
const END: &[u8] = b"\n}";

fn sum_of(bytes: &[u8]) -> Vec<u8> {
    crc32_of(bytes).expect("what is in memory can be read").into_bytes()
}

/// `json` is an object with members, a line each.
pub fn summed(mut json: Vec<u8>) -> Vec<u8> {
    let crc32 = sum_of(&json);
    if json.ends_with(END) {
        json.truncate(json.len() - END.len());
        json.extend([BEFORE, &crc32, BEHIND].concat());
    }
    json
}

/// True where nothing is said: an older program, or a person, wrote it.
pub fn holds(json: &[u8]) -> bool {
    let Some(text) = json.strip_suffix(BEHIND) else { return true };
    let Some((before, crc32)) = text.split_last_chunk::<8>() else { return true };
    let Some(object) = before.strip_suffix(BEFORE) else { return true };
    sum_of(&[object, END].concat()) == crc32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_every_flipped_bit_is_noticed() {
        let json =
            summed(serde_json::to_vec_pretty(&serde_json::json!({"read": [[1, 20]], "x": "y"})).unwrap());
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["read"][0][1], 20);
        assert!(holds(&json));
        let at = json.len() - BEHIND.len() - 8;
        for bit in 0..8 * (at - BEFORE.len()) {
            let mut flipped = json.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!holds(&flipped), "{bit}");
        }
    }

    #[test]
    fn what_says_nothing_is_believed() {
        for json in ["{}", "{\n  \"a\": 1\n}\n", "{\"a\":1}", ""] {
            assert!(holds(json.as_bytes()), "{json}");
        }
    }
}
