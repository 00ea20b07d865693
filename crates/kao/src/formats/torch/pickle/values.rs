//! The values of a pickle, in one arena.

use crate::formats::limits::MAX_PICKLE_VISITS;
use std::cell::Cell;

/// The number of a value in its [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(pub(super) u32);

/// A value.
#[derive(Debug)]
pub enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, little-endian two's complement.
    BigInt(Vec<u8>),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    /// In order; a key may be there twice, and the later one counts.
    Dict(Vec<(Id, Id)>),
    /// A class or function, by name only.
    Global {
        module: Id,
        name: Id,
    },
    /// What a call or a class would have made.
    Object(Box<Object>),
    /// A reference to something outside the pickle: here, a tensor's storage.
    Persistent(Id),
}

/// What a call or a class would have made, had anything been called.
#[derive(Debug)]
pub struct Object {
    /// What would have been called; mostly a [`Node::Global`].
    pub class: Id,
    /// The arguments; mostly a [`Node::Tuple`].
    pub args: Id,
    /// What would have been handed to `__setstate__`.
    pub state: Option<Id>,
    /// What would have been appended.
    pub items: Vec<Id>,
    /// What would have been set by key.
    pub pairs: Vec<(Id, Id)>,
}

/// A pickle, read.
#[derive(Debug)]
pub struct Pickle {
    nodes: Vec<Node>,
    root: Id,
    visits_left: Cell<u64>,
}

impl Pickle {
    /// The values of a program that has run, of which `root` is the whole.
    pub(super) fn new(nodes: Vec<Node>, root: Id) -> Self {
        Pickle { nodes, root, visits_left: Cell::new(MAX_PICKLE_VISITS) }
    }

    pub fn root(&self) -> Id {
        self.root
    }

    pub fn node(&self, id: Id) -> &Node {
        // Numbers come only from `Machine::add`, which pushes the node.
        &self.nodes[id.0 as usize]
    }

    /// The text of a string.
    pub fn text(&self, id: Id) -> Option<&str> {
        if let Node::Str(text) = self.node(id) { Some(text) } else { None }
    }

    /// The elements of a list or tuple.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::List(items) | Node::Tuple(items) => self.visited(items),
            _ => None,
        }
    }

    /// The entries of a dictionary, or of an object of a dictionary's subclass.
    pub fn pairs(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            Node::Dict(pairs) => self.visited(pairs),
            Node::Object(object) if !object.pairs.is_empty() => self.visited(&object.pairs),
            _ => None,
        }
    }

    /// The value of `key` in the dictionary `id`.
    pub fn get(&self, id: Id, key: &str) -> Option<Id> {
        let pairs = self.pairs(id)?;
        pairs.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|&(_, value)| value)
    }

    /// Whether more was asked for than a pickle may cost, so that answers are incomplete.
    pub fn is_exhausted(&self) -> bool {
        self.visits_left.get() == 0
    }

    /// `items`, paid for.
    fn visited<'a, T>(&self, items: &'a [T]) -> Option<&'a [T]> {
        let left = self.visits_left.get().checked_sub(items.len() as u64 + 1);
        self.visits_left.set(left.unwrap_or(0));
        left.map(|_| items)
    }

    /// Module and name of a class or function.
    pub fn global(&self, id: Id) -> Option<(&str, &str)> {
        let &Node::Global { module, name } = self.node(id) else { return None };
        Some((self.text(module)?, self.text(name)?))
    }
}
