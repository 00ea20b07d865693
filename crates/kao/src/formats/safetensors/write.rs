//! Writing safetensors: in the order given, without a copy of the values.

use super::layout::{CHUNK_BYTES, METADATA};
use crate::error::{Error, Result};
use crate::files::atomic_write;
use crate::formats::tensor::{TensorView, checked_product};
use safetensors::Dtype as StoredDtype;
use safetensors::tensor::TensorInfo as Entry;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

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
