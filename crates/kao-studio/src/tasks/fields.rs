//! Fields of tasks: their types, checked before anything else reads them.

use crate::http::problem::Problem;
use kao::error::shortened;
use kao::sampler::Sampler;
use kao::timesteps::{End, Spacing};
use serde_json::{Map, Value, json};

/// A field of a task.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub about: &'static str,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, at least 0.
    Integer,
    Number,
    Text,
    Flag,
    /// The name of a sampler, or an object of its name and settings.
    Sampler,
    /// The name of a spacing of timesteps.
    Spacing,
    /// The name of an end of timesteps.
    End,
    /// Two numbers.
    Interval,
    /// Several whole numbers.
    Integers,
    /// Several numbers.
    Numbers,
    /// Several names.
    Names,
}

/// The longest text of a field, in bytes.
const MAX_TEXT: usize = 4096;
/// The longest name of a list of names, in bytes.
const MAX_NAME: usize = 64;
/// The most entries of a list.
const MAX_ENTRIES: usize = 64;

impl Kind {
    fn expected(self) -> &'static str {
        match self {
            Kind::Spacing | Kind::End => "one of the names that the description lists",
            Kind::Integer => "a whole number, at least 0",
            Kind::Number => "a number",
            Kind::Text => "a text of at most 4096 bytes",
            Kind::Flag => "true or false",
            Kind::Sampler => "the name of a sampler, or an object of its name and settings",
            Kind::Interval => "a list of two numbers",
            Kind::Integers => "a list of at most 64 whole numbers, none below 0",
            Kind::Numbers => "a list of at most 64 numbers",
            Kind::Names => "a list of at most 64 names",
        }
    }

    fn fits(self, value: &Value) -> bool {
        let all = |value: &Value, fits: fn(&Value) -> bool| {
            value.as_array().is_some_and(|list| list.len() <= MAX_ENTRIES && list.iter().all(fits))
        };
        let is_text = |value: &Value| value.as_str().is_some_and(|text| text.len() <= MAX_TEXT);
        match self {
            Kind::Integer => value.is_u64(),
            Kind::Number => value.is_number(),
            Kind::Text => is_text(value),
            Kind::Flag => value.is_boolean(),
            Kind::Sampler => is_text(value) || value.is_object(),
            Kind::Spacing => serde_json::from_value::<Spacing>(value.clone()).is_ok(),
            Kind::End => serde_json::from_value::<End>(value.clone()).is_ok(),
            Kind::Interval => {
                all(value, Value::is_number) && value.as_array().is_some_and(|two| two.len() == 2)
            }
            Kind::Integers => all(value, Value::is_u64),
            Kind::Numbers => all(value, Value::is_number),
            Kind::Names => {
                all(value, |name| name.as_str().is_some_and(|name| name.len() <= MAX_NAME))
            }
        }
    }

    fn schema(self) -> Value {
        match self {
            Kind::Integer => json!({ "type": "integer", "minimum": 0 }),
            Kind::Number => json!({ "type": "number" }),
            Kind::Text => json!({ "type": "string", "maxLength": MAX_TEXT }),
            Kind::Flag => json!({ "type": "boolean" }),
            Kind::Spacing => one_of(Spacing::ALL.iter().map(|spacing| spacing.name())),
            Kind::End => one_of(End::ALL.iter().map(|end| end.name())),
            Kind::Sampler => json!({
                "oneOf": [
                    { "type": "string" },
                    {
                        "type": "object",
                        "properties": { "name": { "type": "string" } },
                        "required": ["name"],
                    },
                ],
            }),
            Kind::Interval => json!({
                "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2,
            }),
            Kind::Integers => list_of("integer"),
            Kind::Numbers => list_of("number"),
            Kind::Names => list_of("string"),
        }
    }
}

fn one_of(names: impl Iterator<Item = &'static str>) -> Value {
    json!({ "enum": names.collect::<Vec<_>>() })
}

fn list_of(kind: &str) -> Value {
    json!({ "type": "array", "items": { "type": kind }, "maxItems": MAX_ENTRIES })
}

/// Checks that all fields given are known and of the right type.
pub fn check(fields: &[Field], given: &Map<String, Value>) -> Result<(), Problem> {
    for (name, value) in given {
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
            let problem = format!("no such field; expected {}", known.join(", "));
            return Err(Problem::invalid(name.clone(), problem));
        };
        if !field.kind.fits(value) {
            let found = value.to_string();
            let problem =
                format!("{} found; expected {}", shortened(&found, 60), field.kind.expected());
            return Err(Problem::invalid(name.clone(), problem));
        }
        if field.kind == Kind::Sampler {
            let sampler = serde_json::from_value::<Sampler>(value.clone());
            sampler.map_err(|error| Problem::invalid(name.clone(), error))?;
        }
    }
    Ok(())
}

/// The fields of a query, by their types. `eta` is that of the sampler, as on the command line.
pub fn from_query(
    fields: &[Field],
    pairs: Vec<(String, String)>,
) -> Result<Map<String, Value>, Problem> {
    let mut given = Map::new();
    let mut eta = None;
    for (name, text) in pairs {
        let wrong = |expected: &str| {
            let found = shortened(&text, 60);
            Problem::invalid(name.clone(), format!("`{found}` found; expected {expected}"))
        };
        if name == "eta" {
            eta = Some(number(&text).ok_or_else(|| wrong("a number"))?);
            continue;
        }
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            return Err(Problem::invalid(name, "no such parameter"));
        };
        let value = match field.kind {
            Kind::Integer => text.parse::<u64>().ok().map(Value::from),
            Kind::Number => number(&text),
            Kind::Text | Kind::Sampler | Kind::Spacing | Kind::End => {
                Some(Value::from(text.as_str()))
            }
            Kind::Flag => match text.as_str() {
                "" | "true" | "1" => Some(Value::from(true)),
                "false" | "0" => Some(Value::from(false)),
                _ => None,
            },
            Kind::Interval => text.split(',').map(number).collect(),
            Kind::Numbers => text.split(',').map(number).collect(),
            Kind::Names => Some(text.split(',').map(|name| Value::from(name.trim())).collect()),
            Kind::Integers => {
                let whole = |part: &str| part.trim().parse::<u64>().ok().map(Value::from);
                text.split(',').map(whole).collect()
            }
        };
        let value = value.ok_or_else(|| wrong(field.kind.expected()))?;
        given.insert(name, value);
    }
    if let Some(eta) = eta {
        let name = given.remove("sampler").unwrap_or_else(|| "ddim".into());
        given.insert("sampler".to_owned(), json!({ "name": name, "eta": eta }));
    }
    Ok(given)
}

fn number(text: &str) -> Option<Value> {
    let number = text.trim().parse::<f64>().ok()?;
    serde_json::Number::from_f64(number).map(Value::from)
}

/// The fields as a schema of JSON.
pub fn schema(fields: &[Field]) -> Value {
    let properties = fields.iter().map(|field| {
        let mut schema = field.kind.schema();
        schema["description"] = field.about.into();
        (field.name.to_owned(), schema)
    });
    json!({
        "type": "object",
        "properties": properties.collect::<Map<_, _>>(),
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        Field { name: "steps", kind: Kind::Integer, about: "" },
        Field { name: "sampler", kind: Kind::Sampler, about: "" },
        Field { name: "clip", kind: Kind::Flag, about: "" },
        Field { name: "between", kind: Kind::Interval, about: "" },
    ];

    #[test]
    fn wrong_types_name_their_field() {
        for (given, field) in [
            (json!({ "steps": "7" }), "steps"),
            (json!({ "steps": -1 }), "steps"),
            (json!({ "steps": 1e300 }), "steps"),
            (json!({ "steps": null }), "steps"),
            (json!({ "clip": 1 }), "clip"),
            (json!({ "sampler": "magic" }), "sampler"),
            (json!({ "sampler": { "eta": 1 } }), "sampler"),
            (json!({ "sampler": [] }), "sampler"),
            (json!({ "between": [1] }), "between"),
            (json!({ "out": "/etc/passwd" }), "out"),
        ] {
            let problem = check(FIELDS, given.as_object().unwrap()).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field), "{given}");
            assert!(problem.message.len() < 400);
        }
        let good = json!({ "steps": 7, "sampler": { "name": "ddim", "eta": 0.5 }, "clip": true });
        assert!(check(FIELDS, good.as_object().unwrap()).is_ok());
    }

    #[test]
    fn a_query_says_the_same_as_json() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let pairs = vec![pair("steps", "7"), pair("eta", "0.5"), pair("between", "1,2")];
        let expected =
            json!({ "steps": 7, "sampler": { "name": "ddim", "eta": 0.5 }, "between": [1.0, 2.0] });
        assert_eq!(Value::from(from_query(FIELDS, pairs).unwrap()), expected);
        for (name, value) in [("steps", "-1"), ("steps", "x"), ("clip", "maybe"), ("out", "x")] {
            let problem = from_query(FIELDS, vec![pair(name, value)]).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(name));
        }
    }
}
