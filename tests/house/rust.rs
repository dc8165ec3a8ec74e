//! As much of Rust as the house rules need: code without its comments, texts and tests, and the paths that it uses.

/// A word or one punctuation mark (`::` counts as one) and the line that it stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// The tokens of `source`: no comments; of texts and characters only an empty `""`.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let (mut at, mut line, mut found) = (0, 1, Vec::new());
    while at < chars.len() {
        let end = token_end(&chars, at);
        let text: String = match chars[at] {
            '"' => "\"\"".to_owned(),
            _ => chars[at..end].iter().collect(),
        };
        let skipped = text.starts_with("//") || text.starts_with("/*") || chars[at].is_whitespace();
        if !skipped {
            found.push(Token { text: if is_literal(&text) { "\"\"".to_owned() } else { text }, line });
        }
        line += chars[at..end].iter().filter(|char| **char == '\n').count();
        at = end;
    }
    found
}

fn is_literal(text: &str) -> bool {
    text.len() > 1 && (text.ends_with(['"', '#']) || (text.starts_with(['\'', 'b']) && text.ends_with('\'')))
}

fn token_end(chars: &[char], at: usize) -> usize {
    let next = |offset: usize| chars.get(at + offset).copied().unwrap_or(' ');
    match (chars[at], next(1)) {
        ('/', '/') => (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()),
        ('/', '*') => comment_end(chars, at),
        ('"', _) => text_end(chars, at + 1),
        ('b' | 'c', '"') => text_end(chars, at + 2),
        ('b', '\'') => character_end(chars, at + 1),
        ('r', '"' | '#') | ('b' | 'c', 'r') if raw_text_end(chars, at).is_some() => {
            raw_text_end(chars, at).expect("just seen")
        }
        ('\'', '\\') => character_end(chars, at),
        ('\'', _) if next(2) == '\'' => at + 3,
        (':', ':') => at + 2,
        (char, _) if is_word(char) => (at..chars.len()).find(|i| !is_word(chars[*i])).unwrap_or(chars.len()),
        _ => at + 1,
    }
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn text_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn character_end(chars: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < chars.len() && chars[at] != '\'' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// `None` where no raw text begins, as in `r#type`.
fn raw_text_end(chars: &[char], start: usize) -> Option<usize> {
    let opening = start + chars[start..].iter().position(|char| *char == 'r')? + 1;
    let hashes = chars[opening..].iter().take_while(|char| **char == '#').count();
    if chars.get(opening + hashes) != Some(&'"') {
        return None;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = opening + hashes + 1;
    let length = chars[body..].windows(closing.len()).position(|window| window == closing)?;
    Some(body + length + closing.len())
}

/// `tokens` without the items under `#[cfg(test)]` and `#[test]`, and the names of the modules in files of their own
/// that stood there.
pub fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        let attribute = ["#[cfg(test)]", "#[test]"].iter().find(|text| reads(&tokens[at..], text));
        if attribute.is_none() {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let end = item_end(tokens, at);
        let words: Vec<&str> = tokens[at..end].iter().map(|token| token.text.as_str()).collect();
        if let [.., "mod", name, ";"] = words[..] {
            modules.push(name.to_owned());
        }
        at = end;
    }
    (kept, modules)
}

fn reads(tokens: &[Token], text: &str) -> bool {
    let mut rest = text;
    for token in tokens {
        match rest.strip_prefix(token.text.as_str()) {
            Some("") => return true,
            Some(more) => rest = more,
            None => return false,
        }
    }
    false
}

/// Just behind the item at `start`: its closing brace, or a semicolon outside of all brackets.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(token.text.as_str(), "}" | ";") {
            return at + 1;
        }
    }
    tokens.len()
}

/// A path from the crate's root, as a use or an expression names it.
#[derive(Debug, PartialEq)]
pub struct Path {
    pub words: Vec<String>,
    pub line: usize,
}

/// Every path in the code of module `home` that begins with `crate`, `sealift`, `self` or `super`, resolved; groups in
/// braces taken apart.
pub fn paths(tokens: &[Token], home: &[String]) -> Vec<Path> {
    let (mut found, mut modules, mut braces) = (Vec::new(), home.to_vec(), Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => {
                let named = at >= 2 && tokens[at - 2].text == "mod";
                if named {
                    modules.push(tokens[at - 1].text.clone());
                }
                braces.push(named);
            }
            "}" if braces.pop() == Some(true) => {
                modules.pop();
            }
            // `pub(super)` and the like name no path: nothing follows them.
            "crate" | "sealift" | "self" | "super" if starts_path(tokens, at) => {
                follow(tokens, at, modules.clone(), &modules, &mut found);
            }
            _ => {}
        }
    }
    found
}

fn starts_path(tokens: &[Token], at: usize) -> bool {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let grouped = at > 0 && matches!(text(at - 1), "{" | ",") && in_path_group(tokens, at);
    text(at + 1) == "::" && (at == 0 || text(at - 1) != "::") && !grouped
}

/// Whether the innermost open brace before `at` continues a path, as in `use super::{super::state}`.
fn in_path_group(tokens: &[Token], at: usize) -> bool {
    let mut depth = 0;
    for before in (1..at).rev() {
        match tokens[before].text.as_str() {
            "}" => depth += 1,
            "{" if depth == 0 => return tokens[before - 1].text == "::",
            "{" => depth -= 1,
            ";" => return false,
            _ => {}
        }
    }
    false
}

/// Collects what the path at `at` names, from module `from`; gives the place behind it.
fn follow(tokens: &[Token], mut at: usize, mut from: Vec<String>, home: &[String], found: &mut Vec<Path>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let line = tokens[at].line;
    loop {
        match text(at) {
            "crate" | "sealift" if from == home => from.clear(),
            "self" => {}
            "super" => {
                from.pop();
            }
            "{" => {
                at += 1;
                while !matches!(text(at), "}" | "") {
                    at = follow(tokens, at, from.clone(), &[], found);
                    at = (at..tokens.len()).find(|at| matches!(text(*at), "," | "}")).unwrap_or(tokens.len());
                    at += usize::from(text(at) == ",");
                }
                return at + 1;
            }
            word => from.push(word.to_owned()),
        }
        if text(at + 1) != "::" {
            found.push(Path { words: from, line });
            return at + 1;
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str, home: &str) -> Vec<String> {
        let home: Vec<String> = home.split("::").map(str::to_owned).collect();
        paths(&tokens(code), &home).iter().map(|path| path.words.join("::")).collect()
    }

    #[test]
    fn a_group_is_taken_apart() {
        let code = "use crate::{clock, store::{self, Key, s3::S3}, fsx as f};";
        assert_eq!(found(code, "state"), ["clock", "store", "store::Key", "store::s3::S3", "fsx"]);
    }

    #[test]
    fn super_climbs_from_where_it_stands() {
        assert_eq!(found("use super::super::state::Lock;", "store::local"), ["state::Lock"]);
        assert_eq!(found("mod inner { use super::super::clock; }", "store"), ["clock"]);
        assert_eq!(found("use super::{super::state, key::Key};", "store::local"), ["state", "store::key::Key"]);
        assert_eq!(found("mod inner { fn a() {} } fn b() { super::state::lock() }", "store"), ["state::lock"]);
    }

    #[test]
    fn comments_texts_and_visibility_name_nothing() {
        let code = r##"/// [`crate::cli::a`]
            pub(crate) fn a() -> &'static str { /* crate::cli::b /* nested */ */ "crate::cli::c" }
            pub(in crate::store) fn d<'a>() { r#"crate::cli::e"#; 'x'; '\''; b'"'; "\"crate::cli::f" }"##;
        assert_eq!(found(code, "store"), ["store"]);
    }

    #[test]
    fn test_items_fall_away_and_nothing_else() {
        let code = "fn a() {} #[cfg(test)] #[allow(x)] mod tests { fn b() { c(); } } #[cfg(test)] mod far; fn d() {}";
        let (kept, modules) = without_tests(&tokens(code));
        let words: Vec<String> = kept.into_iter().map(|token| token.text).collect();
        assert_eq!((words.concat().as_str(), modules), ("fna(){}fnd(){}", vec!["far".to_owned()]));
    }

    #[test]
    fn lines_are_counted_through_texts_and_comments() {
        let found = tokens("/* a\n b */ \"c\nd\"\nhere");
        assert_eq!(found.last(), Some(&Token { text: "here".to_owned(), line: 4 }));
    }
}
