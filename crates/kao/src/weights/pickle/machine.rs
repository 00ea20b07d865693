//! The stack machine, opcode by opcode: protocols 0 to 5.

use std::collections::HashMap;

use super::{Id, Node, Object, Pickle};
use crate::weights::limits::{MAX_PICKLE_MEMORY, MAX_PICKLE_VALUES};

/// What the allocator takes for itself on each piece of memory, about.
const ALLOCATION: usize = 16;
/// What an entry of the memo takes.
const MEMO_ENTRY: usize = 40;

const NONE: Id = Id(0);
const FALSE: Id = Id(1);
const TRUE: Id = Id(2);
const EMPTY_TUPLE: Id = Id(3);

/// Runs the program `bytes` to its end.
pub(super) fn run(bytes: &[u8]) -> Result<Pickle, String> {
    Machine::new(bytes).run()
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack at which a mark lies.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Bytes that values may still take. Copies of shared values grow faster than the program.
    memory_left: usize,
}

type Step<T = ()> = Result<T, String>;

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let nodes = vec![Node::None, Node::Bool(false), Node::Bool(true), Node::Tuple(Vec::new())];
        let (stack, marks, memo) = Default::default();
        let memory_left = MAX_PICKLE_MEMORY;
        Machine { bytes, position: 0, nodes, stack, marks, memo, memory_left }
    }

    fn run(mut self) -> Result<Pickle, String> {
        loop {
            let start = self.position;
            let opcode = self.byte()?;
            if opcode == b'.' {
                let root = self.pop()?;
                return Ok(Pickle::new(self.nodes, root));
            }
            self.execute(opcode)
                .map_err(|problem| format!("{problem} (opcode {opcode:#04x} at byte {start})"))?;
        }
    }

    fn execute(&mut self, opcode: u8) -> Step {
        match opcode {
            // Stack, marks, memo, and framing, which says nothing to a reader in memory.
            b'(' => self.mark(),
            b'0' => self.pop_or_mark(),
            b'1' => self.pop_to_mark().map(drop),
            b'2' => self.top().and_then(|top| self.push(top)),
            0x80 => self.protocol(),
            0x95 => self.take(8).map(drop),
            b'p' => self.text_number().and_then(|index| self.store(index)),
            b'q' => self.unsigned(1).and_then(|index| self.store(index)),
            b'r' => self.unsigned(4).and_then(|index| self.store(index)),
            0x94 => self.store(self.memo.len() as u64),
            b'g' => self.text_number().and_then(|index| self.recall(index)),
            b'h' => self.unsigned(1).and_then(|index| self.recall(index)),
            b'j' => self.unsigned(4).and_then(|index| self.recall(index)),

            // Plain values.
            b'N' => self.push(NONE),
            0x88 => self.push(TRUE),
            0x89 => self.push(FALSE),
            b'I' => self.text_int(),
            b'J' => self.unsigned(4).and_then(|n| self.add(Node::Int(n as u32 as i32 as i64))),
            b'K' => self.unsigned(1).and_then(|n| self.add(Node::Int(n as i64))),
            b'M' => self.unsigned(2).and_then(|n| self.add(Node::Int(n as i64))),
            b'L' => self.text_int(),
            0x8a => self.counted(1).and_then(|bytes| self.add(int_from_bytes(bytes))),
            0x8b => self.counted(4).and_then(|bytes| self.add(int_from_bytes(bytes))),
            b'F' => self.text_float(),
            b'G' => {
                let bits = self.take(8)?.iter().fold(0, |bits, &b| bits << 8 | u64::from(b));
                self.add(Node::Float(f64::from_bits(bits)))
            }
            b'S' => self.quoted(),
            b'V' => self.line().and_then(|line| self.add(Node::Str(lossy(line)))),
            b'T' => self.counted(4).and_then(|bytes| self.add(Node::Str(lossy(bytes)))),
            b'U' | 0x8c => self.counted(1).and_then(|bytes| self.add(Node::Str(lossy(bytes)))),
            b'X' => self.counted(4).and_then(|bytes| self.add(Node::Str(lossy(bytes)))),
            0x8d => self.counted(8).and_then(|bytes| self.add(Node::Str(lossy(bytes)))),
            b'B' => self.counted(4).and_then(|bytes| self.add(Node::Bytes(bytes.to_vec()))),
            b'C' => self.counted(1).and_then(|bytes| self.add(Node::Bytes(bytes.to_vec()))),
            0x8e | 0x96 => self.counted(8).and_then(|bytes| self.add(Node::Bytes(bytes.to_vec()))),

            // Containers.
            b')' => self.push(EMPTY_TUPLE),
            b't' => self.pop_to_mark().and_then(|items| self.add(Node::Tuple(items))),
            0x85 => self.tuple_of(1),
            0x86 => self.tuple_of(2),
            0x87 => self.tuple_of(3),
            b']' => self.add(Node::List(Vec::new())),
            b'l' => self.pop_to_mark().and_then(|items| self.add(Node::List(items))),
            b'a' => self.pop().and_then(|item| self.extend(vec![item])),
            b'e' => self.pop_to_mark().and_then(|items| self.extend(items)),
            0x8f => self.add(Node::Set(Vec::new())),
            0x90 => self.pop_to_mark().and_then(|items| self.extend(items)),
            0x91 => self.pop_to_mark().and_then(|items| self.add(Node::Set(items))),
            b'}' => self.add(Node::Dict(Vec::new())),
            b'd' => {
                let pairs = in_pairs(self.pop_to_mark()?)?;
                self.add(Node::Dict(pairs))
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![(key, value)])
            }
            b'u' => {
                let pairs = in_pairs(self.pop_to_mark()?)?;
                self.set_items(pairs)
            }

            // Names, calls and objects: remembered, never looked up and never called.
            b'c' => {
                let class = self.named_by_lines()?;
                self.push(class)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                if [module, name].iter().any(|id| !matches!(self.node(*id), Node::Str(_))) {
                    return Err("a name that is no text".to_owned());
                }
                self.add(Node::Global { module, name })
            }
            b'R' | 0x81 => {
                let (args, class) = (self.pop()?, self.pop()?);
                self.call(class, args)
            }
            0x92 => {
                let (_keywords, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(class, args)
            }
            b'i' => {
                let class = self.named_by_lines()?;
                let args = self.pop_to_mark()?;
                let args = self.new_node(Node::Tuple(args))?;
                self.call(class, args)
            }
            b'o' => {
                let mut args = self.pop_to_mark()?;
                if args.is_empty() {
                    return Err("an object without a class".to_owned());
                }
                let class = args.remove(0);
                let args = self.new_node(Node::Tuple(args))?;
                self.call(class, args)
            }
            b'b' => self.build(),
            b'P' => {
                let text = lossy(self.line()?);
                let id = self.new_node(Node::Str(text))?;
                self.add(Node::Persistent(id))
            }
            b'Q' => self.pop().and_then(|id| self.add(Node::Persistent(id))),

            0x82..=0x84 => Err("extension codes are not supported".to_owned()),
            0x97 | 0x98 => Err("buffers outside the pickle are not supported".to_owned()),
            _ => Err("an unknown opcode".to_owned()),
        }
    }

    // Reading the program.

    fn take(&mut self, n_bytes: u64) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        match usize::try_from(n_bytes).ok().and_then(|n| rest.get(..n)) {
            Some(taken) => {
                self.position += taken.len();
                Ok(taken)
            }
            None => Err(format!(
                "it ends at byte {}, in the middle of a value of {n_bytes} bytes",
                self.bytes.len()
            )),
        }
    }

    fn byte(&mut self) -> Step<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// A little-endian number of `n_bytes` ≤ 8.
    fn unsigned(&mut self, n_bytes: u64) -> Step<u64> {
        Ok(self.take(n_bytes)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    /// The bytes after a length of `n_length_bytes`.
    fn counted(&mut self, n_length_bytes: u64) -> Step<&'a [u8]> {
        let n_bytes = self.unsigned(n_length_bytes)?;
        self.take(n_bytes)
    }

    fn line(&mut self) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        match rest.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                self.position += end + 1;
                Ok(&rest[..end])
            }
            None => Err("it ends in the middle of a line".to_owned()),
        }
    }

    fn text_number(&mut self) -> Step<u64> {
        let line = lossy(self.line()?);
        line.trim().parse().map_err(|_| format!("`{}` is no memo number", shorten(&line)))
    }

    fn text_int(&mut self) -> Step {
        let line = lossy(self.line()?);
        match line.trim().trim_end_matches('L') {
            "00" => self.push(FALSE),
            "01" => self.push(TRUE),
            digits => match digits.parse() {
                Ok(number) => self.add(Node::Int(number)),
                Err(_) => Err(format!("`{}` is no 64-bit integer", shorten(&line))),
            },
        }
    }

    fn text_float(&mut self) -> Step {
        let line = lossy(self.line()?);
        match line.trim().parse() {
            Ok(number) => self.add(Node::Float(number)),
            Err(_) => Err(format!("`{}` is no number", shorten(&line))),
        }
    }

    /// A string in quotes. Escapes are left as they are: nothing that is read here has any.
    fn quoted(&mut self) -> Step {
        let line = lossy(self.line()?);
        let text = line.trim();
        let inner = ['\'', '"'].iter().find_map(|&q| text.strip_prefix(q)?.strip_suffix(q));
        match inner {
            Some(inner) => self.add(Node::Str(inner.to_owned())),
            None => Err("a string without quotes".to_owned()),
        }
    }

    fn protocol(&mut self) -> Step {
        match self.byte()? {
            0..=5 => Ok(()),
            other => Err(format!("pickle protocol {other} is not known (0 to 5 are)")),
        }
    }

    /// A class or function whose module and name are the next two lines.
    fn named_by_lines(&mut self) -> Step<Id> {
        let (module, name) = (lossy(self.line()?), lossy(self.line()?));
        let module = self.new_node(Node::Str(module))?;
        let name = self.new_node(Node::Str(name))?;
        self.new_node(Node::Global { module, name })
    }

    // The stack, the marks and the memo.

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Takes `n_bytes` from the memory that values may have.
    fn spend(&mut self, n_bytes: usize) -> Step {
        match self.memory_left.checked_sub(n_bytes) {
            Some(left) => {
                self.memory_left = left;
                Ok(())
            }
            None => Err(format!("values of more than {MAX_PICKLE_MEMORY} bytes of memory")),
        }
    }

    fn new_node(&mut self, node: Node) -> Step<Id> {
        if self.nodes.len() >= MAX_PICKLE_VALUES {
            return Err(format!("more than {MAX_PICKLE_VALUES} values"));
        }
        self.spend(size_of::<Node>() + heap_bytes(&node))?;
        self.nodes.push(node);
        Ok(Id((self.nodes.len() - 1) as u32))
    }

    fn add(&mut self, node: Node) -> Step {
        let id = self.new_node(node)?;
        self.push(id)
    }

    fn push(&mut self, id: Id) -> Step {
        if self.stack.len() >= MAX_PICKLE_VALUES {
            return Err(format!("more than {MAX_PICKLE_VALUES} values on the stack"));
        }
        self.stack.push(id);
        Ok(())
    }

    fn mark(&mut self) -> Step {
        if self.marks.len() >= MAX_PICKLE_VALUES {
            return Err(format!("more than {MAX_PICKLE_VALUES} marks"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn top(&self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..].last().copied().ok_or_else(|| "nothing on the stack".to_owned())
    }

    fn pop(&mut self) -> Step<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_or_mark(&mut self) -> Step {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Id>> {
        let height = self.marks.pop().ok_or("no mark on the stack")?;
        Ok(self.stack.split_off(height))
    }

    fn store(&mut self, index: u64) -> Step {
        let top = self.top()?;
        self.spend(MEMO_ENTRY)?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u64) -> Step {
        match self.memo.get(&index) {
            Some(&id) => self.push(id),
            None => Err(format!("memo {index} is empty")),
        }
    }

    // Building values.

    fn tuple_of(&mut self, n_items: usize) -> Step {
        let mut items = vec![NONE; n_items];
        for item in items.iter_mut().rev() {
            *item = self.pop()?;
        }
        self.add(Node::Tuple(items))
    }

    fn top_node(&mut self) -> Step<&mut Node> {
        let top = self.top()?;
        Ok(&mut self.nodes[top.0 as usize])
    }

    fn extend(&mut self, new: Vec<Id>) -> Step {
        self.spend(size_of_val(new.as_slice()))?;
        match self.top_node()? {
            Node::List(items) | Node::Set(items) => items.extend(new),
            Node::Object(object) => object.items.extend(new),
            _ => return Err("items for something that is no list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, new: Vec<(Id, Id)>) -> Step {
        self.spend(size_of_val(new.as_slice()))?;
        match self.top_node()? {
            Node::Dict(pairs) => pairs.extend(new),
            Node::Object(object) => object.pairs.extend(new),
            _ => return Err("entries for something that is no dictionary".to_owned()),
        }
        Ok(())
    }

    fn build(&mut self) -> Step {
        let state = self.pop()?;
        // Attributes of a container or a class say nothing about its content.
        if let Node::Object(object) = self.top_node()? {
            object.state = Some(state);
        }
        Ok(())
    }

    /// Takes the standard containers for what they are, and remembers any other call.
    fn call(&mut self, class: Id, args: Id) -> Step {
        // Containers copy what they are made of, which may be shared: paid for before it is done.
        if let Node::Tuple(args) = self.node(args)
            && let Some(&content) = args.first()
        {
            self.spend(match self.node(content) {
                Node::List(items) | Node::Tuple(items) | Node::Set(items) => {
                    items.len() * size_of::<(Id, Id)>()
                }
                Node::Str(text) => text.len(),
                _ => 0,
            })?;
        }
        let node = self.container(class, args).unwrap_or_else(|| {
            let (items, pairs) = Default::default();
            Node::Object(Box::new(Object { class, args, state: None, items, pairs }))
        });
        self.add(node)
    }

    fn container(&self, class: Id, args: Id) -> Option<Node> {
        let &Node::Global { module, name } = self.node(class) else { return None };
        let (Node::Str(module), Node::Str(name)) = (self.node(module), self.node(name)) else {
            return None;
        };
        let Node::Tuple(args) = self.node(args) else { return None };
        let sequence = |id: Id| match self.node(id) {
            Node::List(items) | Node::Tuple(items) | Node::Set(items) => Some(items.as_slice()),
            _ => None,
        };
        // No argument: empty. One: what it is made of.
        let items = match args[..] {
            [] => Some([].as_slice()),
            [content] => sequence(content),
            _ => None,
        };
        match (module.as_str(), name.as_str()) {
            ("collections", "OrderedDict") | ("builtins" | "__builtin__", "dict") => {
                let pair = |&id: &Id| match sequence(id) {
                    Some(&[key, value]) => Some((key, value)),
                    _ => None,
                };
                Some(Node::Dict(items?.iter().map(pair).collect::<Option<_>>()?))
            }
            // Its argument is what makes missing entries, and of no interest.
            ("collections", "defaultdict") => Some(Node::Dict(Vec::new())),
            ("builtins" | "__builtin__", "list") => Some(Node::List(items?.to_vec())),
            ("builtins" | "__builtin__", "tuple") | ("torch", "Size") => {
                Some(Node::Tuple(items?.to_vec()))
            }
            ("builtins" | "__builtin__", "set" | "frozenset") => Some(Node::Set(items?.to_vec())),
            // How protocol 2 writes bytes: as text of the code points 0 to 255.
            ("_codecs", "encode") => match self.node(*args.first()?) {
                Node::Str(text) => {
                    let bytes = text.chars().map(|c| u8::try_from(u32::from(c)));
                    Some(Node::Bytes(bytes.collect::<Result<_, _>>().ok()?))
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// The memory of a value beyond its place among the others.
fn heap_bytes(node: &Node) -> usize {
    let n_bytes = match node {
        Node::BigInt(bytes) | Node::Bytes(bytes) => bytes.len(),
        Node::Str(text) => text.len(),
        Node::List(items) | Node::Tuple(items) | Node::Set(items) => size_of_val(items.as_slice()),
        Node::Dict(pairs) => size_of_val(pairs.as_slice()),
        Node::Object(_) => size_of::<Object>(),
        Node::None
        | Node::Bool(_)
        | Node::Int(_)
        | Node::Float(_)
        | Node::Global { .. }
        | Node::Persistent(_) => 0,
    };
    if n_bytes == 0 { 0 } else { n_bytes + ALLOCATION }
}

fn in_pairs(items: Vec<Id>) -> Step<Vec<(Id, Id)>> {
    match items.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err("a key without a value".to_owned()),
    }
}

/// A little-endian two's complement integer of any length.
fn int_from_bytes(bytes: &[u8]) -> Node {
    if bytes.len() > 8 {
        return Node::BigInt(bytes.to_vec());
    }
    let is_negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut wide = [if is_negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Node::Int(i64::from_le_bytes(wide))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
