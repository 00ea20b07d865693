//! Tensors on the host with a name, a shape and `f32` values, whatever they were stored as.
//!
//! Every format ends here. What a name means is for the model to know.

use std::fmt;

use indexmap::IndexMap;

use crate::error::{Error, Result};

/// The number type a tensor has in its file. In memory everything is `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 16-bit float with the exponent of an `f32`.
    Bf16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 16-bit signed integer.
    I16,
    /// 8-bit signed integer.
    I8,
    /// 64-bit unsigned integer.
    U64,
    /// 32-bit unsigned integer.
    U32,
    /// 16-bit unsigned integer.
    U16,
    /// 8-bit unsigned integer.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    /// Bytes per value.
    pub fn size(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 | Dtype::U64 => 8,
            Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 | Dtype::U16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// Whether values are whole numbers, or true and false.
    pub fn is_integer(self) -> bool {
        !matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }

    /// Appends the little-endian values of `bytes` to `out`. A last incomplete value is left out.
    pub(super) fn decode_into(self, bytes: &[u8], out: &mut Vec<f32>) {
        fn each<const N: usize>(
            bytes: &[u8],
            out: &mut Vec<f32>,
            convert: impl Fn([u8; N]) -> f32,
        ) {
            out.extend(bytes.as_chunks::<N>().0.iter().map(|&value| convert(value)));
        }
        match self {
            Dtype::F64 => each(bytes, out, |b| f64::from_le_bytes(b) as f32),
            Dtype::F32 => each(bytes, out, f32::from_le_bytes),
            Dtype::F16 => each(bytes, out, |b| half::f16::from_le_bytes(b).to_f32()),
            Dtype::Bf16 => each(bytes, out, |b| half::bf16::from_le_bytes(b).to_f32()),
            Dtype::I64 => each(bytes, out, |b| i64::from_le_bytes(b) as f32),
            Dtype::I32 => each(bytes, out, |b| i32::from_le_bytes(b) as f32),
            Dtype::I16 => each(bytes, out, |b| i16::from_le_bytes(b).into()),
            Dtype::I8 => each(bytes, out, |b| i8::from_le_bytes(b).into()),
            Dtype::U64 => each(bytes, out, |b| u64::from_le_bytes(b) as f32),
            Dtype::U32 => each(bytes, out, |b| u32::from_le_bytes(b) as f32),
            Dtype::U16 => each(bytes, out, |b| u16::from_le_bytes(b).into()),
            Dtype::U8 => each(bytes, out, |b: [u8; 1]| b[0].into()),
            Dtype::Bool => each(bytes, out, |b: [u8; 1]| if b[0] == 0 { 0.0 } else { 1.0 }),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Dtype::F64 => "f64",
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
            Dtype::I64 => "i64",
            Dtype::I32 => "i32",
            Dtype::I16 => "i16",
            Dtype::I8 => "i8",
            Dtype::U64 => "u64",
            Dtype::U32 => "u32",
            Dtype::U16 => "u16",
            Dtype::U8 => "u8",
            Dtype::Bool => "bool",
        })
    }
}

/// A tensor's name, shape and stored type, without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// The sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The number type in the file.
    pub dtype: Dtype,
}

impl TensorInfo {
    /// How many values the tensor has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A tensor on the host: `data` is row-major and holds the product of `shape` values.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    shape: Vec<usize>,
    data: Vec<f32>,
    stored_as: Dtype,
}

impl HostTensor {
    /// Wraps `data`, row-major of `shape` (empty for a scalar).
    ///
    /// # Errors
    /// When `data` does not hold exactly the product of `shape` values.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        if checked_product(&shape) != Some(data.len()) {
            return Err(Error::invalid(
                "tensor",
                format!("{} values given for shape {shape:?}", data.len()),
            ));
        }
        Ok(HostTensor { shape, data, stored_as: Dtype::F32 })
    }

    /// A tensor as a reader found it; the reader vouches for the length of `data`.
    pub(super) fn stored(shape: Vec<usize>, data: Vec<f32>, stored_as: Dtype) -> Self {
        debug_assert_eq!(checked_product(&shape), Some(data.len()));
        HostTensor { shape, data, stored_as }
    }

    /// The sizes, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values, row-major, without the shape.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// The number type the tensor had in its file; `f32` for one that never was in a file.
    pub fn stored_as(&self) -> Dtype {
        self.stored_as
    }

    /// The tensor, borrowed.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { shape: &self.shape, data: &self.data }
    }
}

/// A borrowed tensor, for writing without a copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorView<'a> {
    /// The sizes, outermost first; empty for a scalar.
    pub shape: &'a [usize],
    /// The values, row-major: the product of `shape` of them.
    pub data: &'a [f32],
}

/// Tensors by name, in the order in which they were added (for a file: the order of the file).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedTensors(IndexMap<String, HostTensor>);

impl NamedTensors {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many values all tensors have together.
    pub fn n_values(&self) -> usize {
        self.0.values().map(|tensor| tensor.data.len()).sum()
    }

    /// Adds `tensor` as `name`; gives back the one that had the name before.
    pub fn insert(&mut self, name: impl Into<String>, tensor: HostTensor) -> Option<HostTensor> {
        self.0.insert(name.into(), tensor)
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&HostTensor> {
        self.0.get(name)
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Takes out the tensor called `name`; the others keep their order.
    pub fn remove(&mut self, name: &str) -> Option<HostTensor> {
        self.0.shift_remove(name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names and tensors, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &HostTensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Names and borrowed tensors, in order: what a writer takes.
    pub fn views(&self) -> impl ExactSizeIterator<Item = (&str, TensorView<'_>)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor.view()))
    }

    /// The tensors whose names start with `prefix`, without it; the others are dropped.
    pub fn under(self, prefix: &str) -> Self {
        self.renamed(|name| name.strip_prefix(prefix).map(str::to_owned))
    }

    /// The tensors under the names that `rename` gives them; those without one are dropped.
    pub fn renamed(self, rename: impl Fn(&str) -> Option<String>) -> Self {
        self.into_iter().filter_map(|(name, tensor)| Some((rename(&name)?, tensor))).collect()
    }
}

impl IntoIterator for NamedTensors {
    type Item = (String, HostTensor);
    type IntoIter = indexmap::map::IntoIter<String, HostTensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(String, HostTensor)> for NamedTensors {
    fn from_iter<I: IntoIterator<Item = (String, HostTensor)>>(tensors: I) -> Self {
        NamedTensors(tensors.into_iter().collect())
    }
}

/// The product of `shape`, where it fits.
pub(super) fn checked_product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_type_becomes_f32() {
        let decode = |dtype: Dtype, bytes: &[u8]| {
            let mut out = Vec::new();
            dtype.decode_into(bytes, &mut out);
            out
        };
        assert_eq!(decode(Dtype::F64, &(-1.5f64).to_le_bytes()), [-1.5]);
        assert_eq!(decode(Dtype::F32, &0.25f32.to_le_bytes()), [0.25]);
        assert_eq!(decode(Dtype::F16, &[0x00, 0x3c, 0x00, 0xc0]), [1.0, -2.0]);
        assert_eq!(decode(Dtype::Bf16, &[0x80, 0x3f, 0x49, 0x40]), [1.0, 3.140625]);
        assert_eq!(decode(Dtype::I64, &(-3i64).to_le_bytes()), [-3.0]);
        assert_eq!(decode(Dtype::I32, &(-4i32).to_le_bytes()), [-4.0]);
        assert_eq!(decode(Dtype::I16, &(-5i16).to_le_bytes()), [-5.0]);
        assert_eq!(decode(Dtype::I8, &[0xff, 0x7f]), [-1.0, 127.0]);
        assert_eq!(decode(Dtype::U64, &6u64.to_le_bytes()), [6.0]);
        assert_eq!(decode(Dtype::U32, &7u32.to_le_bytes()), [7.0]);
        assert_eq!(decode(Dtype::U16, &0xffffu16.to_le_bytes()), [65535.0]);
        assert_eq!(decode(Dtype::U8, &[0, 255]), [0.0, 255.0]);
        assert_eq!(decode(Dtype::Bool, &[0, 1, 2]), [0.0, 1.0, 1.0]);
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused() {
        assert!(HostTensor::new([2, 3], vec![0.0; 5]).is_err());
        assert!(HostTensor::new([usize::MAX, 2], vec![]).is_err());
        assert!(HostTensor::new([], vec![1.0]).is_ok());
        assert!(HostTensor::new([0, 7], vec![]).is_ok());
    }

    #[test]
    fn order_is_kept_and_prefixes_come_off() {
        let scalar = |value| HostTensor::new([], vec![value]).unwrap();
        let mut tensors = NamedTensors::new();
        for name in ["ema.b", "ema.a", "step"] {
            tensors.insert(name, scalar(1.0));
        }
        assert_eq!(tensors.names().collect::<Vec<_>>(), ["ema.b", "ema.a", "step"]);
        assert_eq!(tensors.clone().under("ema.").names().collect::<Vec<_>>(), ["b", "a"]);
        assert!(tensors.remove("ema.b").is_some());
        assert_eq!(tensors.names().collect::<Vec<_>>(), ["ema.a", "step"]);
    }
}
