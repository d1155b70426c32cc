//! Turns text from elsewhere into text that may be shown: no credentials, no control characters.

/// What API keys and their kin start with.
const KEY_KINDS: [&str; 6] = ["sk_", "rk_", "pk_", "rkcs_", "whsec_", "ek_"];

/// The text on one line, without control characters and credentials, cut after `max_chars`.
///
/// Remote text may hold terminal escapes, line breaks that forge log lines, or the key itself.
pub fn shown(text: &str, max_chars: usize) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = without_keys(&line);
    match line.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// Replaces everything that looks like an API key by its kind and last four characters.
pub fn without_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let starts_word = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        match KEY_KINDS.iter().find(|kind| starts_word && rest.starts_with(**kind)) {
            Some(kind) => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
                out.push_str(&masked(&rest[..end], kind));
                at += end;
            }
            None => {
                let c = rest.chars().next().expect("at is before the end");
                out.push(c);
                at += c.len_utf8();
            }
        }
    }
    out
}

/// `rk_live_...abcd` for a key, the word itself for anything too short to be one.
fn masked(word: &str, kind: &str) -> String {
    let body = word[kind.len()..].trim_start_matches("live_").trim_start_matches("test_");
    if body.len() < 8 {
        return word.to_owned();
    }
    let prefix = &word[..word.len() - body.len()];
    format!("{prefix}...{}", &body[body.len() - 4..])
}

/// Values that are in no text that is shown, nor in their own debugging form.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    pub fn new(values: impl Iterator<Item = String>) -> Secrets {
        Secrets(values.filter(|value| value.len() >= 8).collect())
    }

    pub fn without(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "..."))
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p11_escapes_and_line_breaks_are_not_shown() {
        assert_eq!(shown("a\u{1b}[31mb\r\nc\u{9b}d", 80), "a [31mb c d");
        assert_eq!(shown("0123456789", 4), "0123...");
    }

    #[test]
    fn keys_are_masked_wherever_they_stand() {
        let text = "key rk_live_51HabcdefghWXYZ, (sk_test_abcdefgh1234) task_list whsec_abcdefghijkl";
        let shown = without_keys(text);
        assert_eq!(shown, "key rk_live_...WXYZ, (sk_test_...1234) task_list whsec_...ijkl");
    }
}
