//! The header of a safetensors file as it is read, with limits on what it may declare.

use super::layout::METADATA;
use crate::formats::contents::Metadata;
use crate::formats::limits::{MAX_DIMENSIONS, MAX_NAME_BYTES, MAX_TENSORS, shown};
use safetensors::Dtype as StoredDtype;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// The header as it stands in the file: a map type would hide a name that is there twice.
#[derive(Default)]
pub struct ReadHeader {
    pub metadata: Metadata,
    pub entries: Vec<(String, ReadEntry)>,
}

/// A tensor of a header.
#[derive(serde::Deserialize)]
pub struct ReadEntry {
    pub dtype: StoredDtype,
    pub shape: Shape,
    pub data_offsets: (usize, usize),
}

/// No more dimensions than a tensor may have.
pub struct Shape(pub Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;

        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sizes: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(size) = sizes.next_element()? {
                    if shape.len() == MAX_DIMENSIONS {
                        let words = format!("more than {MAX_DIMENSIONS} dimensions");
                        return Err(A::Error::custom(words));
                    }
                    shape.push(size);
                }
                Ok(Shape(shape))
            }
        }

        deserializer.deserialize_seq(ShapeVisitor)
    }
}

impl<'de> Deserialize<'de> for ReadHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = ReadHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ReadHeader, A::Error> {
                let mut header = ReadHeader::default();
                let mut names = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name.len() > MAX_NAME_BYTES {
                        let (shown, n) = (shown(&name), name.len());
                        return Err(A::Error::custom(format!(
                            "the tensor `{shown}` has a name of {n} bytes; at most \
                             {MAX_NAME_BYTES} are read"
                        )));
                    }
                    if names.len() > MAX_TENSORS {
                        return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
                    }
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("`{}` is there twice", shown(&name))));
                    }
                    if name == METADATA {
                        let strings: BTreeMap<String, String> = map.next_value()?;
                        header.metadata = strings
                            .into_iter()
                            .map(|(key, text)| (key, Value::String(text)))
                            .collect();
                    } else {
                        let entry = map.next_value().map_err(|e| {
                            A::Error::custom(format!("tensor `{}`: {e}", shown(&name)))
                        })?;
                        header.entries.push((name, entry));
                    }
                }
                Ok(header)
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}
