//! Tensors in a pickle of PyTorch: which storage, and which view of it.
//!
//! A tensor is a call of one of PyTorch's `_rebuild_…` functions, with the storage as a
//! persistent id. The call is recognised here and never made. A view need not be contiguous:
//! it may be transposed, cut out, or expanded with stride 0, and several may share a storage.

use super::pickle::{Id, Node, Pickle};
use crate::formats::limits::{MAX_DIMENSIONS, MAX_NAME_BYTES, shown};
use crate::formats::tensor::{Dtype, checked_product};

/// A tensor as the pickle describes it: a view of a storage.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// The storage's name in the archive.
    pub storage: String,
    pub dtype: Dtype,
    /// The first value of the view.
    offset: usize,
    pub shape: Vec<usize>,
    strides: Vec<usize>,
}

impl TensorSpec {
    /// How many values the view has.
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many values the storage must have for the view to lie within.
    pub fn n_needed(&self) -> usize {
        if self.n_values() == 0 {
            return 0;
        }
        // Known not to overflow: `read_view` has checked.
        let last: usize =
            self.shape.iter().zip(&self.strides).map(|(n, stride)| (n - 1) * stride).sum();
        self.offset + last + 1
    }

    /// The view's values, row-major, from the `bytes` of the storage, which the caller has
    /// checked to hold [`n_needed`](Self::n_needed) values.
    pub fn gather(&self, bytes: &[u8]) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.n_values());
        if self.n_values() == 0 {
            return values;
        }
        let size = self.dtype.size();
        if self.is_contiguous() {
            let end = self.offset + self.n_values();
            self.dtype.decode_into(&bytes[self.offset * size..end * size], &mut values);
            return values;
        }
        let mut index = vec![0; self.shape.len()];
        let mut position = self.offset;
        loop {
            self.dtype.decode_into(&bytes[position * size..][..size], &mut values);
            // Counts up, last dimension first.
            let mut dimension = self.shape.len();
            loop {
                if dimension == 0 {
                    return values;
                }
                dimension -= 1;
                index[dimension] += 1;
                if index[dimension] < self.shape[dimension] {
                    position += self.strides[dimension];
                    break;
                }
                position -= (self.shape[dimension] - 1) * self.strides[dimension];
                index[dimension] = 0;
            }
        }
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expected {
                return false;
            }
            expected *= size;
        }
        true
    }
}

/// The tensor that `id` describes, or nothing where it is something else.
///
/// # Errors
/// Where it is a tensor, but not one that can be read: what is wrong with it.
pub fn tensor(pickle: &Pickle, id: Id) -> Option<Result<TensorSpec, String>> {
    let mut id = id;
    // Parameters and subclasses wrap a tensor; a few layers at most.
    for _ in 0..8 {
        let Node::Object(object) = pickle.node(id) else { return None };
        let (mut class, mut args) = (object.class, pickle.sequence(object.args)?);
        if pickle.global(class) == Some(("torch._tensor", "_rebuild_from_type_v2")) {
            // (function, type, arguments, state)
            let &[function, _, arguments, ..] = args else { return None };
            (class, args) = (function, pickle.sequence(arguments)?);
        }
        let (module, name) = pickle.global(class)?;
        match (module, name) {
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
            | ("torch.nn.parameter", "Parameter" | "Buffer") => id = *args.first()?,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
                return Some(view(pickle, args, None));
            }
            ("torch._utils", "_rebuild_tensor_v3") => {
                // (storage, offset, size, stride, requires_grad, hooks, dtype, …)
                let Some(&dtype) = args.get(6) else { return Some(Err(INCOMPLETE.to_owned())) };
                return Some(view(pickle, args, Some(dtype)));
            }
            ("torch._utils", other) if other.starts_with("_rebuild_") => {
                return Some(Err(format!("`{}` tensors are not supported", shown(other))));
            }
            _ => return None,
        }
    }
    None
}

const INCOMPLETE: &str = "its description is incomplete";

/// A view from (storage, offset, size, stride, …). The storage says the type of the values,
/// unless `dtype` does.
fn view(pickle: &Pickle, args: &[Id], dtype: Option<Id>) -> Result<TensorSpec, String> {
    read_view(pickle, args, dtype).unwrap_or_else(|| Err(INCOMPLETE.to_owned()))
}

fn read_view(
    pickle: &Pickle,
    args: &[Id],
    dtype: Option<Id>,
) -> Option<Result<TensorSpec, String>> {
    let &[storage, offset, shape, strides, ..] = args else { return None };
    let Node::Persistent(storage) = pickle.node(storage) else { return None };
    // ("storage", class, key, device, number of values)
    let &[tag, class, key, _, n_values] = pickle.sequence(*storage)? else { return None };
    if pickle.text(tag) != Some("storage") {
        return None;
    }
    let (_, class) = pickle.global(class)?;
    let dtype_name = match dtype {
        Some(dtype) => pickle.global(dtype)?.1,
        None => class,
    };
    let Some(dtype) = dtype_of(dtype_name) else {
        return Some(Err(format!("values of type `{}` are not supported", shown(dtype_name))));
    };
    let n_stored = size(pickle, n_values)?;
    // An untyped storage counts bytes.
    let n_stored = if class == "UntypedStorage" { n_stored / dtype.size() } else { n_stored };

    let (shape, strides) = (pickle.sequence(shape)?, pickle.sequence(strides)?);
    if let Some(items) = [shape, strides].iter().find(|items| items.len() > MAX_DIMENSIONS) {
        let n = items.len();
        return Some(Err(format!("{n} dimensions; at most {MAX_DIMENSIONS} are read")));
    }
    let sizes = |items: &[Id]| items.iter().map(|&id| size(pickle, id)).collect::<Option<Vec<_>>>();
    let (shape, strides, offset) = (sizes(shape)?, sizes(strides)?, size(pickle, offset)?);
    if shape.len() != strides.len() {
        return None;
    }
    let too_large = || Some(Err(format!("shape {shape:?} with strides {strides:?} is too large")));
    let Some(n_values) = checked_product(&shape) else { return too_large() };
    let mut last = Some(offset);
    if n_values > 0 {
        for (&size, &stride) in shape.iter().zip(&strides) {
            let span = (size - 1).checked_mul(stride);
            last = last.zip(span).and_then(|(last, span)| last.checked_add(span));
        }
    }
    let Some(end) = last.and_then(|last| last.checked_add(1)) else { return too_large() };
    if n_values > 0 && end > n_stored {
        return Some(Err(format!(
            "shape {shape:?} with strides {strides:?} from {offset} reaches value {end} of a \
             storage of {n_stored}"
        )));
    }
    let storage = pickle.text(key)?;
    if storage.len() > MAX_NAME_BYTES {
        let (n, name) = (storage.len(), shown(storage));
        return Some(Err(format!("its storage `{name}` has a name of {n} bytes")));
    }
    let storage = storage.to_owned();
    Some(Ok(TensorSpec { storage, dtype, offset, shape, strides }))
}

fn size(pickle: &Pickle, id: Id) -> Option<usize> {
    if let Node::Int(value) = pickle.node(id) { usize::try_from(*value).ok() } else { None }
}

/// The type of a storage's class, or of a `torch.dtype`, by name.
fn dtype_of(name: &str) -> Option<Dtype> {
    Some(match name {
        "DoubleStorage" | "float64" => Dtype::F64,
        "FloatStorage" | "float32" => Dtype::F32,
        "HalfStorage" | "float16" => Dtype::F16,
        "BFloat16Storage" | "bfloat16" => Dtype::Bf16,
        "LongStorage" | "int64" => Dtype::I64,
        "IntStorage" | "int32" => Dtype::I32,
        "ShortStorage" | "int16" => Dtype::I16,
        "CharStorage" | "int8" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "ByteStorage" | "uint8" => Dtype::U8,
        "BoolStorage" | "bool" => Dtype::Bool,
        _ => return None,
    })
}
