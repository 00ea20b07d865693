//! Files as `torch.save` writes them, made without PyTorch: the pickle and the archive around it.
#![allow(dead_code, reason = "each file of tests uses some of it")]

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;

/// What can be pickled.
#[derive(Clone, Debug)]
pub enum Py {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Py>),
    Tuple(Vec<Py>),
    Dict(Vec<(Py, Py)>),
    /// A class or function: module and name.
    Global(&'static str, &'static str),
    /// What is called, and with what.
    Call(Box<Py>, Vec<Py>),
    /// An object, and its state.
    Object(Box<Py>, Box<Py>),
    /// A tensor of 32-bit floats: shape, strides, and the values of its storage.
    Tensor(Vec<usize>, Vec<usize>, Vec<f32>),
}

impl From<&str> for Py {
    fn from(text: &str) -> Self {
        Py::Text(text.to_owned())
    }
}

impl From<i64> for Py {
    fn from(number: i64) -> Self {
        Py::Int(number)
    }
}

impl From<f64> for Py {
    fn from(number: f64) -> Self {
        Py::Float(number)
    }
}

impl From<Vec<i64>> for Py {
    fn from(numbers: Vec<i64>) -> Self {
        Py::List(numbers.into_iter().map(Py::Int).collect())
    }
}

/// A dictionary.
pub fn dict<'a>(entries: impl IntoIterator<Item = (&'a str, Py)>) -> Py {
    Py::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// A contiguous tensor.
pub fn tensor(shape: &[usize], values: Vec<f32>) -> Py {
    let strides = (1..=shape.len()).map(|from| shape[from..].iter().product()).collect();
    Py::Tensor(shape.to_vec(), strides, values)
}

/// A state dictionary: names, shapes, and one value that all elements of a tensor share.
pub fn state_dict(tensors: impl IntoIterator<Item = (String, Vec<usize>, f32)>) -> Py {
    let entry = |(name, shape, value): (String, Vec<usize>, f32)| {
        let strides = vec![0; shape.len()];
        (Py::Text(name), Py::Tensor(shape, strides, vec![value]))
    };
    Py::Dict(tensors.into_iter().map(entry).collect())
}

/// The file that `torch.save(root, …)` would have written.
pub fn saved(root: &Py) -> Vec<u8> {
    let Pickler { bytes, storages } = Pickler::of(root);
    archive(&bytes, &storages)
}

/// The pickle of that file.
pub fn pickled(root: &Py) -> Vec<u8> {
    Pickler::of(root).bytes
}

/// An archive of this pickle and these storages, which are compressed.
pub fn archive(pickle: &[u8], storages: &[Vec<f32>]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    let mut add = |name: &str, content: &[u8]| {
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(content).unwrap();
    };
    add("data.pkl", pickle);
    add("byteorder", b"little");
    for (key, values) in storages.iter().enumerate() {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        add(&format!("data/{key}"), &bytes);
    }
    zip.finish().unwrap().into_inner()
}

struct Pickler {
    bytes: Vec<u8>,
    storages: Vec<Vec<f32>>,
}

impl Pickler {
    fn of(root: &Py) -> Self {
        let mut pickler = Pickler { bytes: b"\x80\x02".to_vec(), storages: Vec::new() };
        pickler.write(root);
        pickler.bytes.push(b'.');
        pickler
    }

    fn write(&mut self, value: &Py) {
        match value {
            Py::None => self.bytes.push(b'N'),
            Py::Bool(value) => self.bytes.push(if *value { 0x88 } else { 0x89 }),
            Py::Int(number) => {
                self.bytes.extend(b"\x8a\x08");
                self.bytes.extend(number.to_le_bytes());
            }
            Py::Float(number) => {
                self.bytes.push(b'G');
                self.bytes.extend(number.to_be_bytes());
            }
            Py::Text(text) => self.counted(b'X', text.as_bytes()),
            Py::Bytes(bytes) => self.counted(b'B', bytes),
            Py::List(items) => {
                self.bytes.extend(b"](");
                items.iter().for_each(|item| self.write(item));
                self.bytes.push(b'e');
            }
            Py::Tuple(items) => {
                self.bytes.push(b'(');
                items.iter().for_each(|item| self.write(item));
                self.bytes.push(b't');
            }
            Py::Dict(entries) => {
                self.bytes.extend(b"}(");
                for (key, value) in entries {
                    self.write(key);
                    self.write(value);
                }
                self.bytes.push(b'u');
            }
            Py::Global(module, name) => {
                self.bytes.extend(format!("c{module}\n{name}\n").as_bytes());
            }
            Py::Call(class, args) => {
                self.write(class);
                self.write(&Py::Tuple(args.clone()));
                self.bytes.push(b'R');
            }
            Py::Object(object, state) => {
                self.write(object);
                self.write(state);
                self.bytes.push(b'b');
            }
            Py::Tensor(shape, strides, values) => self.tensor(shape, strides, values),
        }
    }

    fn counted(&mut self, opcode: u8, bytes: &[u8]) {
        self.bytes.push(opcode);
        self.bytes.extend((bytes.len() as u32).to_le_bytes());
        self.bytes.extend(bytes);
    }

    fn tensor(&mut self, shape: &[usize], strides: &[usize], values: &[f32]) {
        let key = self.storages.len().to_string();
        self.storages.push(values.to_vec());
        self.write(&Py::Global("torch._utils", "_rebuild_tensor_v2"));
        self.bytes.push(b'(');
        self.write(&Py::Tuple(vec![
            "storage".into(),
            Py::Global("torch", "FloatStorage"),
            Py::Text(key),
            "cpu".into(),
            Py::Int(values.len() as i64),
        ]));
        self.bytes.push(b'Q');
        let sizes = |sizes: &[usize]| sizes.iter().map(|&size| Py::Int(size as i64)).collect();
        self.write(&Py::Int(0));
        self.write(&Py::Tuple(sizes(shape)));
        self.write(&Py::Tuple(sizes(strides)));
        self.write(&Py::Bool(false));
        self.write(&Py::Call(Box::new(Py::Global("collections", "OrderedDict")), Vec::new()));
        self.bytes.extend(b"tR");
    }
}
