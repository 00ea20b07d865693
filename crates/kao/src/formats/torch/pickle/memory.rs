//! The memory of the machine that reads a pickle: its values, and how much they may take.

use super::program::Step;
use super::values::{Id, Node, Object, Pickle};
use crate::formats::limits::{MAX_PICKLE_MEMORY, MAX_PICKLE_VALUES};

/// What the allocator takes for itself on each piece of memory, about.
const ALLOCATION: usize = 16;

pub const NONE: Id = Id(0);
pub const FALSE: Id = Id(1);
pub const TRUE: Id = Id(2);
pub const EMPTY_TUPLE: Id = Id(3);

/// The values so far.
pub struct Memory {
    nodes: Vec<Node>,
    /// Bytes that values may still take. Copies of shared values grow faster than the program.
    memory_left: usize,
}

impl Memory {
    pub fn new() -> Self {
        let nodes = vec![Node::None, Node::Bool(false), Node::Bool(true), Node::Tuple(Vec::new())];
        Memory { nodes, memory_left: MAX_PICKLE_MEMORY }
    }

    /// The values of a program that has run, of which `root` is the whole.
    pub fn into_pickle(self, root: Id) -> Pickle {
        Pickle::new(self.nodes, root)
    }

    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Takes `n_bytes` from the memory that values may have.
    pub fn spend(&mut self, n_bytes: usize) -> Step {
        match self.memory_left.checked_sub(n_bytes) {
            Some(left) => {
                self.memory_left = left;
                Ok(())
            }
            None => Err(format!("values of more than {MAX_PICKLE_MEMORY} bytes of memory")),
        }
    }

    pub fn new_node(&mut self, node: Node) -> Step<Id> {
        if self.nodes.len() >= MAX_PICKLE_VALUES {
            return Err(format!("more than {MAX_PICKLE_VALUES} values"));
        }
        self.spend(size_of::<Node>() + heap_bytes(&node))?;
        self.nodes.push(node);
        Ok(Id((self.nodes.len() - 1) as u32))
    }

    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// Takes the standard containers for what they are, and remembers any other call.
    pub fn call(&mut self, class: Id, args: Id) -> Step<Id> {
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
        self.new_node(node)
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
