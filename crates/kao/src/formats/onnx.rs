//! Writing ONNX: a graph of named operators with its constants, in the binary form of Protocol Buffers.
//!
//! Of ONNX this knows the handful of messages and fields that a graph of tensors in single precision
//! needs. What the operators mean together is for whoever builds the graph to know. Nothing is read
//! here.

use crate::error::{Error, Result};
use crate::files::atomic_write;
use std::io::{self, Write};
use std::path::Path;

/// The version of the format, and of the set of operators: both are read by every runtime of the last
/// years.
const IR_VERSION: u64 = 8;
const OPSET: u64 = 17;

/// A message of Protocol Buffers cannot be longer.
const MAX_BYTES: u64 = (1 << 31) - 1;

/// A type of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floats.
    Float = 1,
    /// 64-bit integers.
    Integer = 7,
}

/// A size of an input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size<'a> {
    /// So many.
    Fixed(usize),
    /// Any number, the same wherever it has this name.
    Named(&'a str),
}

/// A setting of an operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attribute<'a> {
    /// A whole number.
    Integer(&'a str, i64),
    /// Several of them.
    Integers(&'a str, &'a [i64]),
    /// A number.
    Float(&'a str, f32),
    /// A text.
    Text(&'a str, &'a str),
}

/// A graph of operators. Values have names; an operator names those that it takes and the one that it
/// gives.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<u8>,
    constants: Vec<Constant>,
    inputs: Vec<u8>,
    outputs: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Constant {
    /// Everything before the values.
    head: Vec<u8>,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

impl Values {
    fn n_bytes(&self) -> u64 {
        match self {
            Values::Floats(values) => 4 * values.len() as u64,
            Values::Integers(values) => 8 * values.len() as u64,
        }
    }

    fn write(&self, file: &mut impl Write) -> io::Result<()> {
        match self {
            Values::Floats(values) => {
                values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))
            }
            Values::Integers(values) => {
                values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))
            }
        }
    }
}

impl Graph {
    /// Adds an operator that makes `output` of `inputs`; an empty name leaves an input out.
    pub fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[Attribute<'_>],
    ) {
        let mut node = Vec::new();
        inputs.iter().for_each(|input| text(&mut node, 1, input));
        text(&mut node, 2, output);
        text(&mut node, 4, operator);
        attributes.iter().for_each(|attribute| bytes(&mut node, 5, &attribute.message()));
        bytes(&mut self.nodes, 1, &node);
    }

    /// Adds a constant of `shape`, row-major.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        self.constant(name, shape, Element::Float, Values::Floats(values));
    }

    /// Adds a constant list of whole numbers.
    pub fn integers(&mut self, name: &str, values: &[i64]) {
        let shape = [values.len()];
        self.constant(name, &shape, Element::Integer, Values::Integers(values.to_vec()));
    }

    fn constant(&mut self, name: &str, shape: &[usize], element: Element, values: Values) {
        let mut head = Vec::new();
        shape.iter().for_each(|&size| number(&mut head, 1, size as u64));
        number(&mut head, 2, element as u64);
        text(&mut head, 8, name);
        key(&mut head, 9, 2);
        varint(&mut head, values.n_bytes());
        self.constants.push(Constant { head, values });
    }

    /// Declares an input.
    pub fn input(&mut self, name: &str, element: Element, shape: &[Size<'_>]) {
        bytes(&mut self.inputs, 11, &declared(name, element, shape));
    }

    /// Declares an output.
    pub fn output(&mut self, name: &str, element: Element, shape: &[Size<'_>]) {
        bytes(&mut self.outputs, 12, &declared(name, element, shape));
    }

    /// Writes the graph to `path` as a model called `name`, with texts for people and programs.
    ///
    /// # Errors
    /// When it is larger than an ONNX file can be, or the file cannot be written.
    pub fn write(&self, path: &Path, name: &str, texts: &[(&str, String)]) -> Result<()> {
        let mut start = self.nodes.clone();
        text(&mut start, 2, name);
        let declared = self.inputs.len() as u64 + self.outputs.len() as u64;
        let constants: u64 = self.constants.iter().map(Constant::n_bytes).sum();
        let graph_bytes = start.len() as u64 + constants + declared;

        let mut model = Vec::new();
        number(&mut model, 1, IR_VERSION);
        text(&mut model, 2, "kao");
        text(&mut model, 3, env!("CARGO_PKG_VERSION"));
        let mut opset = Vec::new();
        number(&mut opset, 2, OPSET);
        bytes(&mut model, 8, &opset);
        for (name, value) in texts {
            let mut entry = Vec::new();
            text(&mut entry, 1, name);
            text(&mut entry, 2, value);
            bytes(&mut model, 14, &entry);
        }
        key(&mut model, 7, 2);
        varint(&mut model, graph_bytes);
        if model.len() as u64 + graph_bytes > MAX_BYTES {
            let problem = format!("{graph_bytes} bytes; an ONNX file holds at most {MAX_BYTES}");
            return Err(Error::invalid(format!("`{}`", path.display()), problem));
        }
        atomic_write(path, |file| {
            file.write_all(&model)?;
            file.write_all(&start)?;
            self.constants.iter().try_for_each(|constant| constant.write(file))?;
            file.write_all(&self.inputs)?;
            file.write_all(&self.outputs)
        })
    }
}

impl Constant {
    fn message_bytes(&self) -> u64 {
        self.head.len() as u64 + self.values.n_bytes()
    }

    /// With the key and the length before it.
    fn n_bytes(&self) -> u64 {
        self.start().len() as u64 + self.message_bytes()
    }

    fn start(&self) -> Vec<u8> {
        let mut start = Vec::new();
        key(&mut start, 5, 2);
        varint(&mut start, self.message_bytes());
        start
    }

    fn write(&self, file: &mut impl Write) -> io::Result<()> {
        file.write_all(&self.start())?;
        file.write_all(&self.head)?;
        self.values.write(file)
    }
}

impl Attribute<'_> {
    fn message(&self) -> Vec<u8> {
        let mut message = Vec::new();
        let (name, kind) = match self {
            Attribute::Float(name, value) => {
                key(&mut message, 2, 5);
                message.extend(value.to_le_bytes());
                (name, 1)
            }
            Attribute::Integer(name, value) => {
                number(&mut message, 3, *value as u64);
                (name, 2)
            }
            Attribute::Text(name, value) => {
                text(&mut message, 4, value);
                (name, 3)
            }
            Attribute::Integers(name, values) => {
                values.iter().for_each(|&value| number(&mut message, 8, value as u64));
                (name, 7)
            }
        };
        text(&mut message, 1, name);
        number(&mut message, 20, kind);
        message
    }
}

fn declared(name: &str, element: Element, shape: &[Size<'_>]) -> Vec<u8> {
    let mut sizes = Vec::new();
    for size in shape {
        let mut message = Vec::new();
        match size {
            Size::Fixed(size) => number(&mut message, 1, *size as u64),
            Size::Named(name) => text(&mut message, 2, name),
        }
        bytes(&mut sizes, 1, &message);
    }
    let mut tensor = Vec::new();
    number(&mut tensor, 1, element as u64);
    bytes(&mut tensor, 2, &sizes);
    let mut kind = Vec::new();
    bytes(&mut kind, 1, &tensor);
    let mut message = Vec::new();
    text(&mut message, 1, name);
    bytes(&mut message, 2, &kind);
    message
}

/// The key of a field: its number, and how its value is written (0 a varint, 2 with its length, 5 in
/// four bytes).
fn key(to: &mut Vec<u8>, field: u64, kind: u64) {
    varint(to, field << 3 | kind);
}

fn number(to: &mut Vec<u8>, field: u64, value: u64) {
    key(to, field, 0);
    varint(to, value);
}

fn text(to: &mut Vec<u8>, field: u64, value: &str) {
    bytes(to, field, value.as_bytes());
}

fn bytes(to: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(to, field, 2);
    varint(to, value.len() as u64);
    to.extend_from_slice(value);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a message: number, and what stands there.
    fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn read(message: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let (&first, rest) = message.split_first().unwrap();
                *message = rest;
                value |= u64::from(first & 0x7f) << shift;
                if first < 0x80 {
                    break;
                }
            }
            value
        }
        let mut found = Vec::new();
        while !message.is_empty() {
            let key = read(&mut message);
            let value = match key & 7 {
                0 => read(&mut message).to_le_bytes().to_vec(),
                kind => {
                    let len = if kind == 2 { read(&mut message) } else { 4 };
                    let (value, rest) = message.split_at(len as usize);
                    message = rest;
                    value.to_vec()
                }
            };
            found.push((key >> 3, value));
        }
        found
    }

    fn only(message: &[u8], field: u64) -> Vec<u8> {
        let mut found = fields(message).into_iter().filter(|(number, _)| *number == field);
        let value = found.next().unwrap().1;
        assert!(found.next().is_none());
        value
    }

    #[test]
    fn a_graph_is_written_field_by_field() {
        let mut graph = Graph::default();
        graph.input("x", Element::Float, &[Size::Named("batch"), Size::Fixed(300)]);
        graph.floats("two", &[1], vec![2.0]);
        graph.integers("shape", &[0, -1]);
        let attributes = [Attribute::Integers("pads", &[0, -1]), Attribute::Float("alpha", 0.5)];
        graph.node("Mul", &["x", "two"], "y", &attributes);
        graph.output("y", Element::Float, &[Size::Named("batch"), Size::Fixed(300)]);
        let file = tempfile::NamedTempFile::new().unwrap();
        graph.write(file.path(), "test", &[("key", "value".to_owned())]).unwrap();
        let model = std::fs::read(file.path()).unwrap();
        assert_eq!(only(&model, 1)[0], 8);
        assert_eq!(only(&only(&model, 8), 2)[0], 17);
        assert_eq!(only(&only(&model, 14), 2), b"value");
        let graph = only(&model, 7);
        assert_eq!(only(&graph, 2), b"test");
        let node = only(&graph, 1);
        assert_eq!(only(&node, 4), b"Mul");
        assert_eq!(only(&node, 2), b"y");
        let names: Vec<_> = fields(&node).into_iter().filter(|(field, _)| *field == 1).collect();
        assert_eq!(names, [(1, b"x".to_vec()), (1, b"two".to_vec())]);
        let pads = fields(&node).into_iter().find(|(field, _)| *field == 5).unwrap().1;
        let numbers: Vec<_> = fields(&pads).into_iter().filter(|(field, _)| *field == 8).collect();
        assert_eq!(numbers[1].1, (-1i64).to_le_bytes());
        let constants: Vec<_> =
            fields(&graph).into_iter().filter(|(field, _)| *field == 5).collect();
        assert_eq!(only(&constants[0].1, 9), 2.0f32.to_le_bytes());
        assert_eq!(only(&constants[1].1, 9).len(), 16);
        let shape = only(&only(&only(&only(&graph, 11), 2), 1), 2);
        let sizes = fields(&shape);
        assert_eq!(only(&sizes[0].1, 2), b"batch");
        assert_eq!(only(&sizes[1].1, 1), 300u64.to_le_bytes());
    }
}
