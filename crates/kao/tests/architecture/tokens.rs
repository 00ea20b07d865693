//! The tokens of Rust that matter for imports: words and punctuation, without comments, texts and
//! lifetimes.

/// A token, and the line that it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Token {
    pub fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of `source`. A text in quotes becomes the token `"`; `::` is one token, any other
/// punctuation one for each character.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start_line = line;
        let (text, end) = token_at(&chars, at);
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
        if let Some(text) = text {
            tokens.push(Token { text, line: start_line });
        }
    }
    tokens
}

/// The token at `at`, unless it does not matter, and where the next one is.
fn token_at(chars: &[char], at: usize) -> (Option<String>, usize) {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    let first = chars[at];
    if first.is_whitespace() {
        return (None, at + 1);
    }
    if first == '/' && next(1) == '/' {
        let end = chars[at..].iter().position(|c| *c == '\n');
        return (None, end.map_or(chars.len(), |n| at + n));
    }
    if first == '/' && next(1) == '*' {
        return (None, block_comment_end(chars, at));
    }
    if first == ':' && next(1) == ':' {
        return (Some("::".to_owned()), at + 2);
    }
    if first == '"' {
        return (Some("\"".to_owned()), text_end(chars, at));
    }
    if first == '\'' {
        return (None, quote_end(chars, at));
    }
    if first.is_alphanumeric() || first == '_' {
        let n = chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        let word: String = chars[at..at + n].iter().collect();
        let end = at + n;
        // Texts such as b"…", r"…" and br#"…"#.
        if matches!(word.as_str(), "b" | "c" | "r" | "br" | "cr") {
            let n_hashes = chars[end..].iter().take_while(|c| **c == '#').count();
            if chars.get(end + n_hashes) == Some(&'"') {
                let is_raw = word.ends_with('r');
                let end = match is_raw {
                    true => raw_text_end(chars, end + n_hashes, n_hashes),
                    false => text_end(chars, end),
                };
                return (Some("\"".to_owned()), end);
            }
            if word == "b" && chars.get(end) == Some(&'\'') {
                return (None, quote_end(chars, end));
            }
        }
        return (Some(word), end);
    }
    (Some(first.to_string()), at + 1)
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at.min(chars.len())
}

/// Behind the text in quotes that begins at `at`.
fn text_end(chars: &[char], at: usize) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != '"' {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

fn raw_text_end(chars: &[char], quote: usize, n_hashes: usize) -> usize {
    let is_end = |at: usize| {
        chars[at] == '"'
            && chars[at + 1..].iter().take(n_hashes).filter(|c| **c == '#').count() == n_hashes
    };
    let end = (quote + 1..chars.len()).find(|at| is_end(*at));
    end.map_or(chars.len(), |at| at + 1 + n_hashes)
}

/// Behind the character or the lifetime that begins at `at`.
fn quote_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let end = chars[at + 3..].iter().position(|c| *c == '\'');
            end.map_or(chars.len(), |n| at + 4 + n)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => {
            let n =
                chars[at + 1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            at + 1 + n
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_texts_hide_nothing_and_show_nothing() {
        let source = r##"a /* x /* y */ z */ b "c // \" d" e // f
            'g' h<'i> '\'' j r#"k " l"# m b"n" b'o' '\u{1F600}' p::q "##;
        let expected = ["a", "b", "\"", "e", "h", "<", ">", "j", "\"", "m", "\"", "p", "::", "q"];
        assert_eq!(words(source), expected);
        assert_eq!(tokens("a\n\"b\nc\"\nd").last().unwrap().line, 4);
    }
}
