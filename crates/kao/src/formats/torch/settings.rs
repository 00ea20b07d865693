//! A pickled value as JSON, for settings and for showing: hyper-parameters, counters.
//!
//! JSON is a tree and a pickle is not, so what is shared is repeated. A budget keeps a small
//! pickle from growing into a large tree; what is beyond it becomes a short text in its place.

use serde_json::{Map, Number, Value};

use super::pickle::{Id, Node, Object, Pickle};
use super::tensor::{TensorSpec, tensor};
use crate::formats::limits::MAX_SETTINGS;

const MAX_DEPTH: usize = 32;

/// The values of a small tensor, where they can be had.
type TensorValues<'a> = dyn FnMut(&TensorSpec) -> Option<Vec<f32>> + 'a;

/// Turns the settings of one pickle into JSON, all from one budget.
pub struct Settings<'a> {
    pickle: &'a Pickle,
    tensor_values: &'a mut TensorValues<'a>,
    budget: usize,
}

impl<'a> Settings<'a> {
    /// For the settings of `pickle`; `tensor_values` is asked for the values of tensors among them.
    pub fn new(pickle: &'a Pickle, tensor_values: &'a mut TensorValues<'a>) -> Self {
        Settings { pickle, tensor_values, budget: MAX_SETTINGS }
    }

    /// The value `id` as JSON.
    ///
    /// Tuples and sets become arrays. An object becomes what it holds: its entries, items or state
    /// (for `Namespace`, `AttributeDict`, omegaconf's containers, NumPy's numbers and small arrays,
    /// and small tensors that is the plain value), and else its name in angle brackets.
    pub fn json(&mut self, id: Id) -> Value {
        self.value(id, 0)
    }

    fn value(&mut self, id: Id, depth: usize) -> Value {
        if depth > MAX_DEPTH || !self.spend(1) {
            return Value::String("<left out: too deep or too much>".to_owned());
        }
        match self.pickle.node(id) {
            Node::None => Value::Null,
            Node::Bool(value) => (*value).into(),
            Node::Int(value) => (*value).into(),
            Node::BigInt(bytes) => Value::String(format!("<integer of {} bytes>", bytes.len())),
            Node::Float(value) => float(*value),
            Node::Str(text) => self.text(text),
            Node::Bytes(bytes) => Value::String(format!("<{} bytes>", bytes.len())),
            Node::List(items) | Node::Tuple(items) | Node::Set(items) => self.array(items, depth),
            Node::Dict(pairs) => self.object(pairs, depth),
            Node::Global { .. } => self.name(id, ["", ""]),
            Node::Object(object) => self.instance(id, object, depth),
            Node::Persistent(_) => Value::String("<data of a tensor>".to_owned()),
        }
    }

    /// Whether there is still budget for `cost`, which is then taken.
    fn spend(&mut self, cost: usize) -> bool {
        let left = self.budget.checked_sub(cost);
        self.budget = left.unwrap_or(self.budget);
        left.is_some()
    }

    fn text(&mut self, text: &str) -> Value {
        if self.spend(text.len()) {
            Value::String(text.to_owned())
        } else {
            Value::String(format!("<text of {} bytes>", text.len()))
        }
    }

    /// Module and name of a class, as in `torch.float32`.
    fn name(&mut self, class: Id, [before, after]: [&str; 2]) -> Value {
        match self.pickle.global(class) {
            Some((module, name)) if self.spend(module.len() + name.len()) => {
                Value::String(format!("{before}{module}.{name}{after}"))
            }
            _ => Value::String("<object>".to_owned()),
        }
    }

    fn array(&mut self, items: &[Id], depth: usize) -> Value {
        let mut array = Vec::new();
        for &item in items {
            array.push(self.value(item, depth + 1));
            if self.budget == 0 {
                break;
            }
        }
        Value::Array(array)
    }

    fn object(&mut self, pairs: &[(Id, Id)], depth: usize) -> Value {
        let mut map = Map::new();
        for &(key, value) in pairs {
            let key = match self.value(key, depth + 1) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            map.insert(key, self.value(value, depth + 1));
            if self.budget == 0 {
                break;
            }
        }
        Value::Object(map)
    }

    fn instance(&mut self, id: Id, object: &Object, depth: usize) -> Value {
        let (module, name) = self.pickle.global(object.class).unwrap_or_default();
        if module.starts_with("numpy") {
            let plain = match name {
                "scalar" => self.numpy_scalar(object),
                "_reconstruct" => self.numpy_array(object),
                _ => None,
            };
            return plain.unwrap_or_else(|| "<numpy data>".into());
        }
        if let Some(spec) = tensor(self.pickle, id) {
            return spec
                .ok()
                .and_then(|spec| self.tensor(&spec))
                .unwrap_or_else(|| Value::String("<tensor>".to_owned()));
        }
        if module.starts_with("pathlib") && name.ends_with("Path") {
            let parts = self.pickle.sequence(object.args).unwrap_or_default();
            let parts: Vec<_> = parts.iter().filter_map(|&part| self.pickle.text(part)).collect();
            if self.spend(parts.iter().map(|part| part.len() + 1).sum()) {
                return Value::String(parts.join("/").replacen("//", "/", 1));
            }
        }
        if module.starts_with("omegaconf")
            && let Some(state) = object.state
            && let Some(inner) = ["_content", "_val"].iter().find_map(|k| self.pickle.get(state, k))
        {
            return self.value(inner, depth + 1);
        }
        if !object.pairs.is_empty() {
            return self.object(&object.pairs, depth);
        }
        if !object.items.is_empty() {
            return self.array(&object.items, depth);
        }
        match object.state {
            Some(state) if self.pickle.pairs(state).is_some() => self.value(state, depth + 1),
            // An empty container of a class of its own, such as an `AttributeDict`.
            _ if name.ends_with("Dict") || name == "Namespace" => Value::Object(Map::new()),
            _ => self.called(object),
        }
    }

    /// An object of which no more is known than what was called with what: its name, and the value
    /// of a member of an enumeration.
    fn called(&mut self, object: &Object) -> Value {
        let member = match self.pickle.sequence(object.args) {
            Some(&[only]) => match self.pickle.node(only) {
                Node::Str(text) if self.spend(text.len()) => format!(": {text}>"),
                Node::Int(value) => format!(": {value}>"),
                _ => ">".to_owned(),
            },
            _ => ">".to_owned(),
        };
        self.name(object.class, ["<", &member])
    }

    /// A number, or an array of numbers, of a small tensor.
    fn tensor(&mut self, spec: &TensorSpec) -> Option<Value> {
        if spec.shape.len() > 1 || !self.spend(spec.n_values()) {
            return None;
        }
        let values = (self.tensor_values)(spec)?;
        let number = |value: f32| match spec.dtype.is_integer() {
            true => Value::from(value as i64),
            // The shortest decimal number: 0.0001 rather than 0.00009999999747378752.
            false => float(value.to_string().parse().unwrap_or(f64::NAN)),
        };
        match spec.shape.is_empty() {
            true => values.first().copied().map(number),
            false => Some(values.into_iter().map(number).collect()),
        }
    }

    /// `scalar(dtype('f8'), bytes)`, for little-endian numbers.
    fn numpy_scalar(&self, object: &Object) -> Option<Value> {
        let &[dtype, bytes] = self.pickle.sequence(object.args)? else { return None };
        let Node::Bytes(bytes) = self.pickle.node(bytes) else { return None };
        numpy_number(self.numpy_dtype(dtype)?, bytes)
    }

    /// The state `(version, shape, dtype, is_fortran, bytes)` of an array of one dimension, or none.
    fn numpy_array(&mut self, object: &Object) -> Option<Value> {
        let &[_, shape, dtype, _, bytes] = self.pickle.sequence(object.state?)? else {
            return None;
        };
        let (n_dimensions, dtype) = (self.pickle.sequence(shape)?.len(), self.numpy_dtype(dtype)?);
        let Node::Bytes(bytes) = self.pickle.node(bytes) else { return None };
        if n_dimensions == 0 {
            return numpy_number(dtype, bytes);
        }
        let size = dtype.get(1..)?.parse().ok().filter(|size| (1..=8).contains(size))?;
        if n_dimensions > 1 || !self.spend(bytes.len()) {
            return None;
        }
        bytes.chunks(size).map(|bytes| numpy_number(dtype, bytes)).collect()
    }

    /// The name of a little-endian data type, as in `f8`.
    fn numpy_dtype(&self, dtype: Id) -> Option<&'a str> {
        let Node::Object(dtype) = self.pickle.node(dtype) else { return None };
        // (version, byte order, …)
        let order = dtype.state.and_then(|state| self.pickle.sequence(state)?.get(1));
        if order.is_some_and(|&order| self.pickle.text(order) == Some(">")) {
            return None;
        }
        self.pickle.text(*self.pickle.sequence(dtype.args)?.first()?)
    }
}

/// A little-endian number of NumPy's data type `dtype`.
fn numpy_number(dtype: &str, bytes: &[u8]) -> Option<Value> {
    Some(match dtype {
        "f8" => float(f64::from_le_bytes(bytes.try_into().ok()?)),
        "f4" => float(f32::from_le_bytes(bytes.try_into().ok()?).to_string().parse().ok()?),
        "i8" => i64::from_le_bytes(bytes.try_into().ok()?).into(),
        "i4" => i32::from_le_bytes(bytes.try_into().ok()?).into(),
        "i2" => i16::from_le_bytes(bytes.try_into().ok()?).into(),
        "i1" => i8::from_le_bytes(bytes.try_into().ok()?).into(),
        "u8" => u64::from_le_bytes(bytes.try_into().ok()?).into(),
        "u4" => u32::from_le_bytes(bytes.try_into().ok()?).into(),
        "u2" => u16::from_le_bytes(bytes.try_into().ok()?).into(),
        "u1" => (*bytes.first()?).into(),
        "b1" => (*bytes.first()? != 0).into(),
        _ => return None,
    })
}

/// JSON has no infinity and no NaN: those become text.
fn float(value: f64) -> Value {
    match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None => Value::String(value.to_string()),
    }
}
