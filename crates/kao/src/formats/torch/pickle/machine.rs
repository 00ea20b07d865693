//! The stack machine, opcode by opcode: protocols 0 to 5.

use super::memory::{EMPTY_TUPLE, FALSE, Memory, NONE, TRUE};
use super::program::{Program, Step, lossy};
use super::values::{Id, Node, Pickle};
use crate::formats::limits::MAX_PICKLE_VALUES;
use std::collections::HashMap;

/// What an entry of the memo takes.
const MEMO_ENTRY: usize = 40;

/// Reads `bytes`: runs the program in them to its end.
///
/// # Errors
/// What is wrong with it and where, in words that follow on "its pickle:".
pub fn run(bytes: &[u8]) -> Result<Pickle, String> {
    let (stack, marks, memo) = Default::default();
    let (program, memory) = (Program::new(bytes), Memory::new());
    Machine { program, memory, stack, marks, memo }.run()
}

struct Machine<'a> {
    program: Program<'a>,
    memory: Memory,
    stack: Vec<Id>,
    /// Heights of the stack at which a mark lies.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Machine<'_> {
    fn run(mut self) -> Result<Pickle, String> {
        loop {
            let start = self.program.position();
            let opcode = self.program.byte()?;
            if opcode == b'.' {
                let root = self.pop()?;
                return Ok(self.memory.into_pickle(root));
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
            0x95 => self.program.take(8).map(drop),
            b'p' => self.text_number().and_then(|index| self.store(index)),
            b'q' => self.program.unsigned(1).and_then(|index| self.store(index)),
            b'r' => self.program.unsigned(4).and_then(|index| self.store(index)),
            0x94 => self.store(self.memo.len() as u64),
            b'g' => self.text_number().and_then(|index| self.recall(index)),
            b'h' => self.program.unsigned(1).and_then(|index| self.recall(index)),
            b'j' => self.program.unsigned(4).and_then(|index| self.recall(index)),

            // Plain values.
            b'N' => self.push(NONE),
            0x88 => self.push(TRUE),
            0x89 => self.push(FALSE),
            b'I' => self.text_int(),
            b'J' => {
                self.program.unsigned(4).and_then(|n| self.add(Node::Int(n as u32 as i32 as i64)))
            }
            b'K' => self.program.unsigned(1).and_then(|n| self.add(Node::Int(n as i64))),
            b'M' => self.program.unsigned(2).and_then(|n| self.add(Node::Int(n as i64))),
            b'L' => self.text_int(),
            0x8a => self.program.counted(1).and_then(|bytes| self.add(int_from_bytes(bytes))),
            0x8b => self.program.counted(4).and_then(|bytes| self.add(int_from_bytes(bytes))),
            b'F' => self.text_float(),
            b'G' => {
                let bits =
                    self.program.take(8)?.iter().fold(0, |bits, &b| bits << 8 | u64::from(b));
                self.add(Node::Float(f64::from_bits(bits)))
            }
            b'S' => self.quoted(),
            b'V' => self.program.line().and_then(|line| self.add(Node::Str(lossy(line)))),
            b'T' => self.program.counted(4).and_then(|bytes| self.add(Node::Str(lossy(bytes)))),
            b'U' | 0x8c => {
                self.program.counted(1).and_then(|bytes| self.add(Node::Str(lossy(bytes))))
            }
            b'X' => self.program.counted(4).and_then(|bytes| self.add(Node::Str(lossy(bytes)))),
            0x8d => self.program.counted(8).and_then(|bytes| self.add(Node::Str(lossy(bytes)))),
            b'B' => self.program.counted(4).and_then(|bytes| self.add(Node::Bytes(bytes.to_vec()))),
            b'C' => self.program.counted(1).and_then(|bytes| self.add(Node::Bytes(bytes.to_vec()))),
            0x8e | 0x96 => {
                self.program.counted(8).and_then(|bytes| self.add(Node::Bytes(bytes.to_vec())))
            }

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
                if [module, name].iter().any(|id| !matches!(self.memory.node(*id), Node::Str(_))) {
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
                let args = self.memory.new_node(Node::Tuple(args))?;
                self.call(class, args)
            }
            b'o' => {
                let mut args = self.pop_to_mark()?;
                if args.is_empty() {
                    return Err("an object without a class".to_owned());
                }
                let class = args.remove(0);
                let args = self.memory.new_node(Node::Tuple(args))?;
                self.call(class, args)
            }
            b'b' => self.build(),
            b'P' => {
                let text = self.program.text_line()?;
                let id = self.memory.new_node(Node::Str(text))?;
                self.add(Node::Persistent(id))
            }
            b'Q' => self.pop().and_then(|id| self.add(Node::Persistent(id))),

            0x82..=0x84 => Err("extension codes are not supported".to_owned()),
            0x97 | 0x98 => Err("buffers outside the pickle are not supported".to_owned()),
            _ => Err("an unknown opcode".to_owned()),
        }
    }

    // Reading values.

    fn text_number(&mut self) -> Step<u64> {
        let line = self.program.text_line()?;
        line.trim().parse().map_err(|_| format!("`{}` is no memo number", shorten(&line)))
    }

    fn text_int(&mut self) -> Step {
        let line = self.program.text_line()?;
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
        let line = self.program.text_line()?;
        match line.trim().parse() {
            Ok(number) => self.add(Node::Float(number)),
            Err(_) => Err(format!("`{}` is no number", shorten(&line))),
        }
    }

    /// A string in quotes. Escapes are left as they are: nothing that is read here has any.
    fn quoted(&mut self) -> Step {
        let line = self.program.text_line()?;
        let text = line.trim();
        let inner = ['\'', '"'].iter().find_map(|&q| text.strip_prefix(q)?.strip_suffix(q));
        match inner {
            Some(inner) => self.add(Node::Str(inner.to_owned())),
            None => Err("a string without quotes".to_owned()),
        }
    }

    fn protocol(&mut self) -> Step {
        match self.program.byte()? {
            0..=5 => Ok(()),
            other => Err(format!("pickle protocol {other} is not known (0 to 5 are)")),
        }
    }

    /// A class or function whose module and name are the next two lines.
    fn named_by_lines(&mut self) -> Step<Id> {
        let (module, name) = (self.program.text_line()?, self.program.text_line()?);
        let module = self.memory.new_node(Node::Str(module))?;
        let name = self.memory.new_node(Node::Str(name))?;
        self.memory.new_node(Node::Global { module, name })
    }

    // The stack, the marks and the memo.

    fn add(&mut self, node: Node) -> Step {
        let id = self.memory.new_node(node)?;
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
        self.memory.spend(MEMO_ENTRY)?;
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
        Ok(self.memory.node_mut(top))
    }

    fn extend(&mut self, new: Vec<Id>) -> Step {
        self.memory.spend(size_of_val(new.as_slice()))?;
        match self.top_node()? {
            Node::List(items) | Node::Set(items) => items.extend(new),
            Node::Object(object) => object.items.extend(new),
            _ => return Err("items for something that is no list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, new: Vec<(Id, Id)>) -> Step {
        self.memory.spend(size_of_val(new.as_slice()))?;
        match self.top_node()? {
            Node::Dict(pairs) => pairs.extend(new),
            Node::Object(object) => object.pairs.extend(new),
            _ => return Err("entries for something that is no dictionary".to_owned()),
        }
        Ok(())
    }

    fn call(&mut self, class: Id, args: Id) -> Step {
        let made = self.memory.call(class, args)?;
        self.push(made)
    }

    fn build(&mut self) -> Step {
        let state = self.pop()?;
        // Attributes of a container or a class say nothing about its content.
        if let Node::Object(object) = self.top_node()? {
            object.state = Some(state);
        }
        Ok(())
    }
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

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
