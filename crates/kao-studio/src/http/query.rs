//! Queries of URLs.

use super::problem::Problem;

/// The names and values of a query, decoded.
pub fn pairs(query: Option<&str>) -> Result<Vec<(String, String)>, Problem> {
    let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let undecodable = || Problem::invalid("query", "not UTF-8 in percent encoding");
            let decoded = |text| decode(text).ok_or_else(undecodable);
            Ok((decoded(name)?, decoded(value)?))
        })
        .collect()
}

/// The value of a name, where it is there.
pub fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        (rest, _) = match first {
            b'%' => {
                let digits = std::str::from_utf8(after.get(..2)?).ok()?;
                // `from_str_radix` takes a sign too.
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                (&after[2..], bytes.push(u8::from_str_radix(digits, 16).ok()?))
            }
            b'+' => (after, bytes.push(b' ')),
            other => (after, bytes.push(other)),
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let found = pairs(Some("seed=7&tags=blue+hair%2C%20smile&&flag")).unwrap();
        assert_eq!(value(&found, "seed"), Some("7"));
        assert_eq!(value(&found, "tags"), Some("blue hair, smile"));
        assert_eq!(value(&found, "flag"), Some(""));
        for broken in ["a=%", "a=%2", "a=%+1", "a=%ff", "%zz=1"] {
            assert!(pairs(Some(broken)).is_err(), "{broken}");
        }
    }
}
