//! Values that users choose by name: each name is written once, and serves the command line, files
//! and the texts of pictures alike.

use crate::error::Error;

/// The error for a name that is none of `names`, with a hint where one of them begins like it.
pub fn unknown<'a>(
    field: &str,
    given: &str,
    names: impl IntoIterator<Item = &'a str> + Clone,
) -> Error {
    let all: Vec<&str> = names.into_iter().collect();
    let error = Error::out_of_range(field, given, format!("one of {}", all.join(", ")));
    match meant(given, all) {
        Some(name) => error.with_hint(format!("did you mean `{name}`?")),
        None => error,
    }
}

/// Of `names`, the one that begins like what was given. Of several it is the shortest, where all
/// others begin with that.
pub fn meant<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let is_longer = |name: &&str| !given.is_empty() && name.starts_with(given);
    let longer: Vec<&str> = names.into_iter().filter(is_longer).collect();
    let shortest = longer.iter().min_by_key(|name| name.len())?;
    longer.iter().all(|name| name.starts_with(shortest)).then_some(*shortest)
}

/// Gives an enumeration without fields its names: `ALL`, `name()`, `Display`, `FromStr`, and
/// serialization by name. What stands behind `or` is accepted too, and never written.
macro_rules! names {
    ($Type:ident, $field:literal, {
        $($Variant:ident => $name:literal $(or $alias:literal)*),+ $(,)?
    }) => {
        impl $Type {
            /// All values, in the order in which users see them listed.
            pub const ALL: &'static [$Type] = &[$($Type::$Variant),+];

            /// The name on command lines, in files and in the texts of pictures.
            pub fn name(self) -> &'static str {
                match self {
                    $($Type::$Variant => $name),+
                }
            }
        }

        impl std::fmt::Display for $Type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $Type {
            type Err = $crate::error::Error;

            fn from_str(name: &str) -> $crate::error::Result<Self> {
                match name {
                    $($name $(| $alias)* => Ok($Type::$Variant),)+
                    _ => Err($crate::named::unknown($field, name, [$($name),+])),
                }
            }
        }

        impl serde::Serialize for $Type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $Type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                name.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use names;

#[cfg(test)]
mod tests {
    use super::meant;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Colour {
        Red,
        DarkBlue,
    }
    names!(Colour, "colour", { Red => "red", DarkBlue => "dark-blue" or "navy" });

    #[test]
    fn a_name_is_the_same_everywhere() {
        for &colour in Colour::ALL {
            assert_eq!(colour.name().parse::<Colour>().unwrap(), colour);
            let json = serde_json::to_string(&colour).unwrap();
            assert_eq!(json, format!("\"{colour}\""));
            assert_eq!(serde_json::from_str::<Colour>(&json).unwrap(), colour);
        }
        assert_eq!("navy".parse::<Colour>().unwrap(), Colour::DarkBlue);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_one_that_was_meant() {
        let names = ["dpm++", "dpm++-sde", "ddim", "ddpm"];
        assert_eq!(meant("dpm", names), Some("dpm++"));
        assert_eq!((meant("dd", names), meant("", names), meant("x", names)), (None, None, None));
        let error = "dark".parse::<Colour>().unwrap_err();
        assert_eq!(error.to_string(), "colour dark: must be one of red, dark-blue");
        assert_eq!(error.hint(), Some("did you mean `dark-blue`?"));
        assert_eq!("green".parse::<Colour>().unwrap_err().hint(), None);
        assert_eq!("".parse::<Colour>().unwrap_err().hint(), None);
        let error = serde_json::from_str::<Colour>("\"green\"").unwrap_err().to_string();
        assert!(error.starts_with("colour green: must be one of red, dark-blue"), "{error}");
    }
}
