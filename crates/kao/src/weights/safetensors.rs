//! The safetensors format: a JSON header with names, types, shapes and offsets, then the values.
//!
//! The header's types come from the `safetensors` crate. Reading and writing stream here, so
//! that a model is never held twice, and every error names the tensor and the numbers.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use safetensors::Dtype as StoredDtype;
use safetensors::tensor::TensorInfo as Entry;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::atomic::atomic_write;
use super::file::{Contents, Format, Metadata, Source, WeightsFile};
use super::limits::{MAX_DIMENSIONS, MAX_HEADER_BYTES, MAX_NAME_BYTES, MAX_TENSORS, shown};
use super::tensor::{Dtype, HostTensor, TensorInfo, TensorView, checked_product};
use crate::error::{Error, Result};

const METADATA: &str = "__metadata__";
/// Bytes of the number before the header: its length.
const LENGTH_BYTES: u64 = 8;
/// Bytes that are read or written at a time; a multiple of every value's size.
const CHUNK_BYTES: usize = 1 << 18;

/// The number type that a writer stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreAs {
    /// 32-bit floats: exact.
    #[default]
    F32,
    /// 16-bit floats, rounded to nearest: half the size.
    F16,
}

/// Writes `tensors` to `path` as safetensors, atomically, in the order given. The same input
/// gives the same bytes.
///
/// # Errors
/// When a name is given twice or reserved, a shape does not match its values, a finite value is
/// beyond what [`StoreAs::F16`] can hold, or the file cannot be written.
pub fn write_safetensors<'a>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (&'a str, TensorView<'a>)>,
    metadata: &BTreeMap<String, String>,
    store_as: StoreAs,
) -> Result<()> {
    let tensors: Vec<_> = tensors.into_iter().collect();
    for &(name, tensor) in &tensors {
        let refused = |problem| Err(Error::invalid(format!("tensor `{name}`"), problem));
        if checked_product(tensor.shape) != Some(tensor.data.len()) {
            let (shape, n) = (tensor.shape, tensor.data.len());
            return refused(format!("{n} values given for shape {shape:?}"));
        }
        if store_as == StoreAs::F16
            && let Some(value) = tensor.data.iter().find(|&&value| overflows_f16(value))
        {
            return refused(format!("{value} is beyond what a 16-bit float can hold (65504)"));
        }
    }
    let header = Header::new(tensors.iter().map(|(name, t)| (*name, t.shape)), metadata, store_as)?;
    atomic_write(path, |file| {
        header.write(file)?;
        tensors.iter().try_for_each(|(_, tensor)| write_values(file, tensor.data, store_as))
    })
}

/// Writes 32-bit floats to `path` as safetensors, atomically, one tensor at a time: `values` is
/// asked for each of `tensors` (name and shape) in turn, so that they never are in memory together.
///
/// # Errors
/// When a name is given twice or reserved, or the file cannot be written.
///
/// # Panics
/// When `values` gives other than the number of values that a shape has.
pub fn stream_safetensors(
    path: impl AsRef<Path>,
    tensors: &[(String, Vec<usize>)],
    metadata: &BTreeMap<String, String>,
    mut values: impl FnMut(usize) -> Vec<f32>,
) -> Result<()> {
    let list = tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
    let header = Header::new(list, metadata, StoreAs::F32)?;
    atomic_write(path, |file| {
        header.write(file)?;
        for (index, (name, shape)) in tensors.iter().enumerate() {
            let values = values(index);
            assert_eq!(checked_product(shape), Some(values.len()), "values of `{name}`");
            write_values(file, &values, StoreAs::F32)?;
        }
        Ok(())
    })
}

fn write_values(file: &mut impl Write, values: &[f32], store_as: StoreAs) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK_BYTES.min(4 * values.len()));
    for values in values.chunks(CHUNK_BYTES / 4) {
        bytes.clear();
        match store_as {
            StoreAs::F32 => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            StoreAs::F16 => {
                bytes.extend(values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()));
            }
        }
        file.write_all(&bytes)?;
    }
    Ok(())
}

fn overflows_f16(value: f32) -> bool {
    value.is_finite() && half::f16::from_f32(value).is_infinite()
}

/// The header in the order in which it is written.
struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    entries: Vec<(&'a str, Entry)>,
}

impl<'a> Header<'a> {
    /// Lays out tensors, given by name and shape, one after the other.
    fn new(
        tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
        metadata: &'a BTreeMap<String, String>,
        store_as: StoreAs,
    ) -> Result<Self> {
        let mut header = Header { metadata, entries: Vec::new() };
        let mut names = HashSet::new();
        let mut offset = 0;
        for (name, shape) in tensors {
            if name == METADATA || !names.insert(name) {
                return Err(Error::invalid(format!("tensor `{name}`"), "the name is taken"));
            }
            let (dtype, size) = match store_as {
                StoreAs::F32 => (StoredDtype::F32, 4),
                StoreAs::F16 => (StoredDtype::F16, 2),
            };
            let n_values: usize = shape.iter().product();
            let data_offsets = (offset, offset + n_values * size);
            header.entries.push((name, Entry { dtype, shape: shape.to_vec(), data_offsets }));
            offset = data_offsets.1;
        }
        Ok(header)
    }

    fn write(&self, file: &mut impl Write) -> io::Result<()> {
        let mut header = serde_json::to_vec(self)?;
        // Values start at a multiple of eight bytes, as the format asks.
        header.resize(header.len().next_multiple_of(8), b' ');
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)
    }
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        for (name, entry) in &self.entries {
            map.serialize_entry(name, entry)?;
        }
        map.end()
    }
}

/// An open file whose header was read and found sound.
pub(super) struct SafetensorsFile {
    source: Source,
    /// Where the values start.
    data_start: u64,
    metadata: Metadata,
    /// In the order of the values.
    tensors: Vec<TensorInfo>,
}

impl SafetensorsFile {
    /// Reads the header, and checks every size in it against the size of the file.
    pub fn open(mut source: Source) -> Result<Self> {
        let mut length = [0; LENGTH_BYTES as usize];
        source.read_exact_at(0, &mut length)?;
        let n_header = u64::from_le_bytes(length);
        let n_after = source.len.saturating_sub(LENGTH_BYTES);
        if n_header > n_after {
            return Err(source
                .malformed(format!(
                    "its safetensors header should be {n_header} bytes, but {n_after} bytes follow"
                ))
                .with_hint("the file is truncated, or no safetensors file"));
        }
        if n_header > MAX_HEADER_BYTES {
            return Err(source.malformed(format!(
                "its safetensors header is {n_header} bytes; at most {MAX_HEADER_BYTES} are read"
            )));
        }
        let bytes = source.read_at(LENGTH_BYTES, n_header)?;
        let header: ReadHeader = serde_json::from_slice(&bytes)
            .map_err(|error| source.malformed(format!("its safetensors header: {error}")))?;
        drop(bytes);

        let mut entries = header.entries;
        entries.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut position = 0;
        let mut tensors = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            let wrong =
                |problem| Err(source.malformed(format!("tensor `{}`: {problem}", shown(&name))));
            let Some(dtype) = known_dtype(entry.dtype) else {
                return wrong(format!("values of type {:?} are not supported", entry.dtype));
            };
            let (start, end) = entry.data_offsets;
            let Shape(shape) = entry.shape;
            let n_bytes =
                checked_product(&shape).and_then(|n_values| n_values.checked_mul(dtype.size()));
            if start != position || end.checked_sub(start) != n_bytes {
                return wrong(format!(
                    "shape {shape:?} of {dtype} lies at bytes {start}..{end}, expected {position}..{}",
                    match n_bytes.and_then(|n_bytes| n_bytes.checked_add(position)) {
                        Some(end) => end.to_string(),
                        None => "more than memory can hold".to_owned(),
                    }
                ));
            }
            position = end;
            tensors.push(TensorInfo { name, shape, dtype });
        }
        let n_data = n_after - n_header;
        if position as u64 != n_data {
            return Err(source
                .malformed(format!(
                    "its header tells of {position} bytes of values, but there are {n_data}"
                ))
                .with_hint("the file seems truncated or damaged: fetch it again"));
        }
        let data_start = LENGTH_BYTES + n_header;
        Ok(SafetensorsFile { source, data_start, metadata: header.metadata, tensors })
    }

    pub fn contents(self) -> Contents {
        Contents {
            format: Format::Safetensors,
            file_bytes: self.source.len,
            tensors: self.tensors,
            metadata: self.metadata,
            notes: Vec::new(),
        }
    }

    pub fn read(mut self) -> Result<WeightsFile> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut offset = self.data_start;
        let mut tensors = Vec::with_capacity(self.tensors.len());
        for TensorInfo { name, shape, dtype } in self.tensors {
            let n_values: usize = shape.iter().product();
            let mut data = Vec::with_capacity(n_values);
            let mut n_left = n_values * dtype.size();
            while n_left > 0 {
                let bytes = &mut chunk[..n_left.min(CHUNK_BYTES)];
                self.source.read_exact_at(offset, bytes)?;
                dtype.decode_into(bytes, &mut data);
                offset += bytes.len() as u64;
                n_left -= bytes.len();
            }
            tensors.push((name, HostTensor::stored(shape, data, dtype)));
        }
        Ok(WeightsFile {
            format: Format::Safetensors,
            tensors: tensors.into_iter().collect(),
            metadata: self.metadata,
            notes: Vec::new(),
        })
    }
}

fn known_dtype(stored: StoredDtype) -> Option<Dtype> {
    Some(match stored {
        StoredDtype::F64 => Dtype::F64,
        StoredDtype::F32 => Dtype::F32,
        StoredDtype::F16 => Dtype::F16,
        StoredDtype::BF16 => Dtype::Bf16,
        StoredDtype::I64 => Dtype::I64,
        StoredDtype::I32 => Dtype::I32,
        StoredDtype::I16 => Dtype::I16,
        StoredDtype::I8 => Dtype::I8,
        StoredDtype::U64 => Dtype::U64,
        StoredDtype::U32 => Dtype::U32,
        StoredDtype::U16 => Dtype::U16,
        StoredDtype::U8 => Dtype::U8,
        StoredDtype::BOOL => Dtype::Bool,
        _ => return None,
    })
}

/// The header as it stands in the file: a map type would hide a name that is there twice.
#[derive(Default)]
struct ReadHeader {
    metadata: Metadata,
    entries: Vec<(String, ReadEntry)>,
}

/// A tensor of a header.
#[derive(serde::Deserialize)]
struct ReadEntry {
    dtype: StoredDtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

/// No more dimensions than a tensor may have.
struct Shape(Vec<usize>);

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
