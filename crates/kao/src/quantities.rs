//! Durations, sizes and counts as people write them, the same in every message.

/// Seconds: `42 s`, `3 min 5 s`, `2 h 10 min`, `3 days 4 h`, `102 days`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match hours {
        0 if minutes == 0 => format!("{seconds} s"),
        0 => format!("{minutes} min {} s", seconds % 60),
        1..48 => format!("{hours} h {} min", minutes % 60),
        48..240 => format!("{} days {} h", hours / 24, hours % 24),
        _ => format!("{} days", hours / 24),
    }
}

/// Estimated seconds, no more exact than an estimate is: `20 min`, `5 h`, `41 days`.
pub fn estimate(seconds: f64) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    const DAY: f64 = 24.0 * HOUR;
    let of = |unit: f64| (seconds / unit).round().max(1.0) as u64;
    match seconds {
        seconds if seconds < 1.5 * MINUTE => format!("{} s", of(1.0)),
        seconds if seconds < 1.5 * HOUR => format!("{} min", of(MINUTE)),
        seconds if seconds < 2.0 * DAY => format!("{} h", of(HOUR)),
        _ => format!("{} days", of(DAY)),
    }
}

/// Bytes: `9.2 MiB`, `1.4 GiB`.
pub fn size(bytes: u64) -> String {
    let gibibytes = bytes as f64 / (1u64 << 30) as f64;
    let (number, unit) =
        if gibibytes < 1.0 { (1024.0 * gibibytes, "MiB") } else { (gibibytes, "GiB") };
    if number < 10.0 { format!("{number:.1} {unit}") } else { format!("{number:.0} {unit}") }
}

/// Bytes from words such as `4GiB`, `1500 MB`, `2.5g`.
///
/// # Errors
/// When there is no number, or none of the usual units behind it.
pub fn parse_size(words: &str) -> Result<u64, String> {
    let words = words.trim();
    let end = words.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(words.len());
    let expected = || "expected a size such as 4GiB or 1500MB".to_owned();
    let number: f64 = words[..end].parse().map_err(|_| expected())?;
    let unit: f64 = match words[end..].trim().to_ascii_lowercase().as_str() {
        "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err(expected()),
    };
    Ok((number * unit) as u64)
}

/// Sizes in requests: written as a text such as `4294967296B`, read as such a text or as a number of
/// bytes.
pub(crate) mod optional_size {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a size such as 4GiB, or a number of bytes")]
    enum Size {
        Bytes(u64),
        Text(String),
    }

    pub fn serialize<S: Serializer>(size: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        size.map(|bytes| format!("{bytes}B")).serialize(to)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Option<u64>, D::Error> {
        let size = Option::<Size>::deserialize(from)?;
        let bytes = |size| match size {
            Size::Bytes(bytes) => Ok(bytes),
            Size::Text(text) => super::parse_size(&text).map_err(serde::de::Error::custom),
        };
        size.map(bytes).transpose()
    }
}

/// `1 picture`, `2 pictures`.
pub fn counted(n: u64, what: &str) -> String {
    let ending = if what.ends_with("ch") { "es" } else { "s" };
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}{ending}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words() {
        assert_eq!(duration(0.4), "0 s");
        assert_eq!(duration(59.6), "1 min 0 s");
        assert_eq!(duration(7800.0), "2 h 10 min");
        assert_eq!(duration(-1.0), "0 s");
        assert_eq!(duration(50.0 * 3600.0), "2 days 2 h");
        // What `anime64` took where "14w left" was said.
        assert_eq!(duration(2447.0 * 3600.0), "101 days");
    }

    #[test]
    fn estimates_are_round() {
        let hour = 3600.0;
        let cases = [
            (0.1, "1 s"),
            (80.0, "80 s"),
            (1210.0, "20 min"),
            (5.3 * hour, "5 h"),
            (41.2 * 24.0 * hour, "41 days"),
        ];
        for (seconds, words) in cases {
            assert_eq!(estimate(seconds), words);
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [("4GiB", 4 << 30), ("1.5g", 3 << 29), ("1500 MB", 1_500_000_000), ("7b", 7)];
        for (words, bytes) in cases {
            assert_eq!(parse_size(words), Ok(bytes), "{words}");
        }
        for words in ["", "4", "GiB", "-1GiB", "4 apples", "1.2.3g", "４GiB"] {
            assert!(parse_size(words).is_err(), "{words}");
        }
    }

    #[test]
    fn bytes_are_told_in_one_way() {
        let cases = [(9_600_000, "9.2 MiB"), (300 << 20, "300 MiB"), (3 << 29, "1.5 GiB")];
        for (bytes, words) in cases {
            assert_eq!(size(bytes), words);
        }
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([counted(1, "step"), counted(0, "step")], ["1 step", "0 steps"]);
    }
}
