//! Turns the text of a Rust file into code without comments, texts and tests, and into its texts.

use std::collections::BTreeSet;

/// A Rust file, read far enough for the house rules.
pub struct Rust {
    /// The code; comments, the inside of string literals and test code are blanks. Lines stay in place.
    pub code: String,
    /// String literals outside tests, as written, with their lines.
    pub literals: Vec<(usize, String)>,
}

impl Rust {
    pub fn parse(text: &str) -> Rust {
        let (mut code, found) = without_texts(text);
        blank_tests(&mut code);
        let mut literals = Vec::new();
        for (start, literal) in found {
            // The quote of a literal in a test has been blanked.
            if code[start] == b'"' {
                let line = text[..start].matches('\n').count() + 1;
                literals.push((line, literal));
            }
        }
        Rust { code: String::from_utf8(code).expect("whole characters are blanked"), literals }
    }

    /// The lines in which the code holds `word`, and not as the end of a longer name.
    pub fn lines_with(&self, word: &str) -> Vec<usize> {
        let starts_name = word.starts_with(|c: char| c.is_alphanumeric());
        let at = self.code.match_indices(word).map(|(at, _)| at);
        let whole = at.filter(|at| !(starts_name && ends_in_name(&self.code[..*at])));
        whole.map(|at| self.code[..at].matches('\n').count() + 1).collect()
    }
}

fn ends_in_name(text: &str) -> bool {
    text.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The text with comments and insides of literals blanked, and the literals by the place of their quote.
fn without_texts(text: &str) -> (Vec<u8>, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let (mut code, mut literals) = (bytes.to_vec(), Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let end = if rest.starts_with("//") {
            blank(&mut code, at, at + rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            blank(&mut code, at, at + rest.find("*/").expect("comments end") + 2)
        } else if let Some(n_marks) = raw_marks(text, at) {
            let start = at + 1 + n_marks;
            let closing = format!("\"{}", "#".repeat(n_marks));
            let end = start + 1 + text[start + 1..].find(&closing).expect("raw texts end");
            literals.push((start, text[start + 1..end].to_owned()));
            blank(&mut code, start + 1, end) + closing.len()
        } else if bytes[at] == b'"' {
            let end = at + 1 + end_of_text(&bytes[at + 1..]);
            literals.push((at, text[at + 1..end].to_owned()));
            blank(&mut code, at + 1, end) + 1
        } else if let Some(length) = character(rest) {
            blank(&mut code, at, at + length)
        } else {
            at + rest.chars().next().map_or(1, char::len_utf8)
        };
        at = end;
    }
    (code, literals)
}

/// Blanks a span, keeps its line breaks, and returns its end.
fn blank(code: &mut [u8], start: usize, end: usize) -> usize {
    for byte in &mut code[start..end] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
    end
}

/// The number of `#` of a raw string literal that begins here.
fn raw_marks(text: &str, at: usize) -> Option<usize> {
    if ends_in_name(text[..at].trim_end_matches('b')) {
        return None;
    }
    let marks = text[at..].strip_prefix('r')?;
    let n_marks = marks.len() - marks.trim_start_matches('#').len();
    marks[n_marks..].starts_with('"').then_some(n_marks)
}

/// Where the closing quote of a literal stands.
fn end_of_text(bytes: &[u8]) -> usize {
    let mut at = 0;
    while bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

/// The length of a character literal that begins here; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if inside.starts_with('\\') {
        return Some(1 + 2 + inside[2..].find('\'')? + 1);
    }
    let length = inside.chars().next()?.len_utf8();
    inside[length..].starts_with('\'').then_some(length + 2)
}

/// Blanks every item under `#[cfg(test)]`.
fn blank_tests(code: &mut [u8]) {
    const MARK: &[u8] = b"#[cfg(test)]";
    while let Some(start) = code.windows(MARK.len()).position(|window| window == MARK) {
        let mut depth = 0;
        let mut end = start + MARK.len();
        while end < code.len() {
            let byte = code[end];
            end += 1;
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 1 => break,
                b'}' => depth -= 1,
                b';' if depth == 0 => break,
                _ => {}
            }
        }
        blank(code, start, end);
    }
}

/// Every path below `root::` in the code, with the braces of `use` taken apart.
pub fn paths(code: &str, root: &str) -> BTreeSet<String> {
    let start = format!("{root}::");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(&start) {
        let before = &code[..at];
        if !ends_in_name(before) && !before.ends_with("::") {
            tree(&code[at + start.len()..], "", &mut found);
        }
    }
    found
}

/// One branch of a `use` tree, or one path of an expression. Returns what is left of the text.
fn tree<'a>(text: &'a str, prefix: &str, found: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = tree(rest, prefix, found).trim_start();
            // `as` and a new name may stand before the comma.
            rest =
                rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == ' ').trim_start();
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let length = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    let path = match (prefix, name) {
        ("", name) => name.to_owned(),
        (prefix, "" | "self") => prefix.to_owned(),
        (prefix, name) => format!("{prefix}::{name}"),
    };
    match rest.strip_prefix("::") {
        Some(next) if !name.is_empty() && !next.starts_with('<') => tree(next, &path, found),
        _ => {
            if !path.is_empty() {
                found.insert(path);
            }
            rest.strip_prefix('*').unwrap_or(rest)
        }
    }
}

#[test]
fn texts_comments_and_tests_are_blank_and_nested_uses_are_taken_apart() {
    let rust = Rust::parse(
        "// crate::a\nuse crate::{b::{self, C as D}, e::*};\nfn f<'a>() { g(\"crate::h\", r#\"i\"#, '\"'); crate::j::k::<L>() }\n#[cfg(test)]\nmod tests { use crate::m; const N: &str = \"o\"; }\n",
    );
    let expected = ["b", "b::C", "e", "j::k"].map(str::to_owned);
    assert_eq!(paths(&rust.code, "crate"), BTreeSet::from(expected));
    assert_eq!(rust.literals, [(3, "crate::h".to_owned()), (3, "i".to_owned())]);
    assert_eq!(rust.lines_with("fn f"), [3]);
}
