//! Paths in configuration files and checkpoints. These hold Unicode only, while file systems allow
//! other bytes too, such as folder names in Shift-JIS.
//!
//! A Unicode path is written as it is. Any other is written with a prefix, and the bytes that are not
//! ASCII are encoded as in a URL: `percent-encoded:/data/%93%FA%96%7B`.

use serde::{Deserialize, Deserializer, Serializer};
use std::path::{Path, PathBuf};

const PREFIX: &str = "percent-encoded:";

/// For `#[serde(with = …)]` on a path.
pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&encode(path))
}

/// For `#[serde(with = …)]` on a path.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    decode(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// For `#[serde(with = …)]` on a path that may be missing.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, PathBuf, Serializer, decode, encode};

    pub(in super::super) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => to.serialize_some(&encode(path)),
            None => to.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| decode(&text)).transpose().map_err(serde::de::Error::custom)
    }
}

fn encode(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.starts_with(PREFIX) => text.to_owned(),
        _ => {
            let bytes = path.as_os_str().as_encoded_bytes().iter();
            let letters = bytes.map(|&byte| match byte {
                b'%' | 0..0x20 | 0x7F.. => format!("%{byte:02X}"),
                byte => char::from(byte).to_string(),
            });
            PREFIX.to_owned() + &letters.collect::<String>()
        }
    }
}

fn decode(text: &str) -> Result<PathBuf, String> {
    let Some(encoded) = text.strip_prefix(PREFIX) else { return Ok(text.into()) };
    let wrong = || format!("`{text}`: expected two hexadecimal digits behind each %");
    let mut parts = encoded.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or_else(wrong)?;
        // `from_str_radix` would accept a sign.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        bytes.extend(rest.as_bytes());
    }
    from_bytes(bytes).ok_or_else(|| format!("`{text}`: not a path on this system"))
}

#[cfg(unix)]
fn from_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    Some(std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn from_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unicode_is_left_as_it_is() {
        for text in ["", "faces", "/data/100% 顔", "a b\\c", "percent-encoded"] {
            assert_eq!(encode(Path::new(text)), text);
            assert_eq!(decode(text).unwrap(), Path::new(text));
        }
        let odd = "percent-encoded:/x%41";
        assert_eq!(encode(Path::new(odd)), "percent-encoded:percent-encoded:/x%2541");
        assert_eq!(decode(&encode(Path::new(odd))).unwrap(), Path::new(odd));
        for text in ["%", "%4", "%4g", "%+1", "%é"] {
            assert!(decode(&format!("{PREFIX}{text}")).is_err(), "{text}");
        }
    }

    #[cfg(unix)]
    proptest! {
        #[test]
        fn any_path_comes_back(bytes in prop::collection::vec(1u8.., 0..40), prefixed: bool) {
            let bytes = if prefixed { [PREFIX.as_bytes(), &bytes].concat() } else { bytes };
            let path = from_bytes(bytes).unwrap();
            prop_assert_eq!(decode(&encode(&path)).unwrap(), path);
        }
    }
}
