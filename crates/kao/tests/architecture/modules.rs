//! The modules of a crate as its sources declare them, and what each file names of others.

use crate::tokens::{Token, tokens};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module that is a file.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// The file, relative to the sources.
    pub file: PathBuf,
    /// The modules declared in it.
    children: BTreeSet<String>,
    /// What it imports, or re-exports: the path behind each name.
    imports: BTreeMap<String, Import>,
    /// Modules of which everything is imported.
    globs: Vec<Named>,
    /// Paths that stand in its code, outside of imports.
    paths: Vec<Named>,
}

/// A path, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    path: Vec<String>,
    line: usize,
    is_test: bool,
}

#[derive(Clone, Debug)]
struct Import {
    named: Named,
    is_public: bool,
}

/// A crate: its modules by path, of which the empty one is the root.
#[derive(Clone, Debug, Default)]
pub struct Crate {
    pub modules: BTreeMap<Vec<String>, Module>,
}

/// One file names something in another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub from: Vec<String>,
    pub to: Vec<String>,
    pub line: usize,
    pub is_test: bool,
}

/// Modules that name each other, and where they do.
#[derive(Clone, Debug)]
pub struct Circle {
    pub modules: Vec<String>,
    pub edges: Vec<Edge>,
}

/// What can be reached from `start` along `edges`, in one step or more.
fn reachable<'a>(
    start: &String,
    edges: &'a BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<&String> = edges.get(start).into_iter().flatten().collect();
    while let Some(at) = waiting.pop() {
        if found.insert(at) {
            waiting.extend(edges.get(at).into_iter().flatten());
        }
    }
    found
}

impl Crate {
    /// Reads the crate whose root is the file `root`.
    pub fn read(root: &Path) -> Self {
        let folder = root.parent().unwrap();
        Self::of(Path::new(root.file_name().unwrap()), &|file| {
            std::fs::read_to_string(folder.join(file)).ok()
        })
    }

    /// The crate whose files `read` gives.
    pub fn of(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut modules = BTreeMap::new();
        let mut waiting = vec![(Vec::<String>::new(), root.to_path_buf(), false)];
        while let Some((path, file, is_test)) = waiting.pop() {
            let source = read(&file).unwrap_or_else(|| panic!("{}: not there", file.display()));
            let mut module = Module { file: file.clone(), ..Module::default() };
            let tokens = tokens(&source);
            let mut reader =
                Reader { tokens: &tokens, module: &mut module, declared: Vec::new(), depth: 0 };
            reader.items(0, tokens.len(), is_test);
            let declared = reader.declared;
            // The folder of the modules within: that of the root, of `mod.rs`, or beside the file.
            let is_folder =
                path.is_empty() || file.file_name().is_some_and(|name| name == "mod.rs");
            let folder = match is_folder {
                true => file.parent().unwrap().to_path_buf(),
                false => file.with_extension(""),
            };
            for (name, is_test) in declared {
                let candidates =
                    [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")];
                let found = candidates.into_iter().find(|file| read(file).is_some());
                let child = path.iter().cloned().chain([name.clone()]).collect();
                let found = found.unwrap_or_else(|| panic!("no file of the module {child:?}"));
                module.children.insert(name);
                waiting.push((child, found, is_test));
            }
            modules.insert(path, module);
        }
        Crate { modules }
    }

    /// What every file names of others. A re-export of what a module within declares is none: it
    /// says where something is.
    pub fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (from, module) in &self.modules {
            let mut add = |named: &Named, is_public: bool| {
                let Some(to) = self.resolve(from, &named.path, 0) else { return };
                let is_within = to.len() > from.len() && to.starts_with(from);
                if to != *from && !(is_public && is_within) {
                    let (line, is_test) = (named.line, named.is_test);
                    edges.insert(Edge { from: from.clone(), to, line, is_test });
                }
            };
            for Import { named, is_public } in module.imports.values() {
                // What a path through an imported module names is looked at where it stands.
                if !self.is_module(from, &named.path) {
                    add(named, *is_public);
                }
            }
            module.globs.iter().chain(&module.paths).for_each(|named| add(named, false));
        }
        edges
    }

    /// The groups of modules that name each other in a circle, outside of tests: of the modules
    /// beside each other in one module, each with all that is within it. That a module names what it
    /// is within, and is named by it, makes no circle: they are one thing.
    pub fn circles(&self) -> Vec<Circle> {
        let edges = self.edges();
        let mut circles = Vec::new();
        for (parent, module) in &self.modules {
            let beside = |path: &[String]| match path.starts_with(parent) {
                true => path.get(parent.len()).cloned(),
                false => None,
            };
            let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            let mut between = Vec::new();
            for edge in edges.iter().filter(|edge| !edge.is_test) {
                if let (Some(from), Some(to)) = (beside(&edge.from), beside(&edge.to))
                    && from != to
                {
                    named.entry(from.clone()).or_default().insert(to.clone());
                    between.push((from, to, edge.clone()));
                }
            }
            let reached: BTreeMap<&String, BTreeSet<&String>> =
                module.children.iter().map(|child| (child, reachable(child, &named))).collect();
            let mut done = BTreeSet::new();
            for child in &module.children {
                let is_with = |other: &&String| {
                    reached[child].contains(*other) && reached[*other].contains(child)
                };
                let group: BTreeSet<&String> = module.children.iter().filter(is_with).collect();
                if group.len() > 1 && done.insert(group.clone()) {
                    let is_in = |(from, to, _): &&(String, String, Edge)| {
                        group.contains(from) && group.contains(to)
                    };
                    let edges = between.iter().filter(is_in).map(|(_, _, edge)| edge.clone());
                    let modules = group.iter().copied().map(|name| {
                        parent.iter().chain([name]).cloned().collect::<Vec<_>>().join("::")
                    });
                    circles.push(Circle { modules: modules.collect(), edges: edges.collect() });
                }
            }
        }
        circles
    }

    /// Whether a path that stands in the module `from` is that of a module itself.
    fn is_module(&self, from: &[String], path: &[String]) -> bool {
        self.walk(from, path, 0).is_some_and(|(_, rest)| rest.is_empty())
    }

    /// The file with what a path names, seen from the module `from`: the module itself, or the one
    /// with the item.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        let (module, rest) = self.walk(from, path, depth)?;
        let Some(item) = rest.first() else { return Some(module) };
        // What is re-exported is where it was exported from. What a module imports for itself is seen
        // by those within it too.
        let import = self.modules[&module].imports.get(item);
        let import = import.filter(|import| import.is_public || from.starts_with(&module));
        match import.filter(|_| depth < 16) {
            Some(import) => {
                let behind = self.resolve(&module, &import.named.path, depth + 1);
                Some(behind.unwrap_or(module))
            }
            None => Some(module),
        }
    }

    /// The innermost module on a path, and what of the path is within it. None for paths that lead
    /// out of the crate.
    fn walk(
        &self,
        from: &[String],
        path: &[String],
        depth: usize,
    ) -> Option<(Vec<String>, Vec<String>)> {
        let mut at = from.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (at, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            first if self.modules[from].children.contains(first) => {}
            first => {
                // A name that is imported stands for what is behind it.
                let import = self.modules[from].imports.get(first).filter(|_| depth < 16)?;
                let inner: Vec<String> =
                    import.named.path.iter().chain(&path[1..]).cloned().collect();
                if inner == path {
                    return None;
                }
                return self.walk(from, &inner, depth + 1);
            }
        }
        while let Some(name) = rest.first() {
            if self.modules[&at].children.contains(name) {
                at.push(name.clone());
            } else if rest.len() > 1 || depth > 0 {
                // A module may be re-exported under another one.
                let behind = self.modules[&at].imports.get(name).filter(|_| depth < 16);
                let module =
                    behind.and_then(|import| self.walk(&at, &import.named.path, depth + 1));
                match module {
                    Some((module, inner)) if inner.is_empty() && module != at => at = module,
                    _ => break,
                }
            } else {
                break;
            }
            rest = &rest[1..];
        }
        Some((at, rest.to_vec()))
    }
}

/// Reads the items of a file.
struct Reader<'a> {
    tokens: &'a [Token],
    module: &'a mut Module,
    /// Modules that are files, and whether only tests have them.
    declared: Vec<(String, bool)>,
    /// How many modules in braces the place that is read is within.
    depth: usize,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    /// Reads the tokens from `at` to `end`.
    fn items(&mut self, mut at: usize, end: usize, is_test: bool) {
        // What attributes say of the item that follows them.
        let (mut marks_test, mut has_path) = (false, false);
        let mut is_public = false;
        while at < end {
            let is_test_item = is_test || marks_test;
            match self.text(at) {
                "#" => {
                    let open = at + 1 + usize::from(self.text(at + 1) == "!");
                    let close = self.matching(open);
                    let words: Vec<&str> = (open..close).map(|at| self.text(at)).collect();
                    marks_test |= words.starts_with(&["[", "cfg", "(", "test"])
                        || words.starts_with(&["[", "cfg", "(", "doctest"]);
                    has_path |= words.starts_with(&["[", "path"]);
                    at = close + 1;
                    continue;
                }
                "pub" => {
                    is_public = true;
                    at += 1;
                    if self.text(at) == "(" {
                        at = self.matching(at) + 1;
                    }
                    continue;
                }
                "mod" if self.text(at + 2) == ";" => {
                    if !has_path {
                        self.declared.push((self.text(at + 1).to_owned(), is_test_item));
                    }
                    at += 3;
                }
                "mod" if self.text(at + 2) == "{" => {
                    let close = self.matching(at + 2).min(end);
                    self.depth += 1;
                    self.items(at + 3, close, is_test_item);
                    self.depth -= 1;
                    at = close + 1;
                }
                "use" => {
                    let mut last = at + 1;
                    while last < end && self.text(last) != ";" {
                        last += 1;
                    }
                    self.import(at + 1, last, &[], is_public, is_test_item);
                    at = last + 1;
                }
                // What only tests have, and items in braces.
                _ if marks_test => {
                    let mut last = at;
                    while last < end && !matches!(self.text(last), ";" | "{") {
                        last += 1;
                    }
                    let close = if self.text(last) == "{" { self.matching(last) } else { last };
                    self.items(at, close.min(end), true);
                    at = close + 1;
                }
                _ => at = self.path(at, end, is_test),
            }
            (marks_test, has_path, is_public) = (false, false, false);
        }
    }

    /// The place of the bracket that closes the one at `open`.
    fn matching(&self, open: usize) -> usize {
        let mut depth = 0;
        for at in open..self.tokens.len() {
            match self.text(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => {
                    depth -= 1;
                    if depth == 0 {
                        return at;
                    }
                }
                _ => {}
            }
        }
        self.tokens.len()
    }

    /// Reads a path, if there is one of several words at `at`; gives where to go on.
    fn path(&mut self, mut at: usize, end: usize, is_test: bool) -> usize {
        let line = self.tokens[at].line;
        let is_start = at == 0 || self.text(at - 1) != "::";
        if !self.tokens[at].is_word() || self.text(at + 1) != "::" || !is_start {
            return at + 1;
        }
        let mut path = vec![self.text(at).to_owned()];
        while self.text(at + 1) == "::" && at + 2 < end && self.tokens[at + 2].is_word() {
            at += 2;
            path.push(self.text(at).to_owned());
        }
        self.module.paths.push(self.named(path, line, is_test));
        at + 1
    }

    /// Reads the tree of an import between `at` and `end`, below `prefix`.
    fn import(
        &mut self,
        mut at: usize,
        end: usize,
        prefix: &[String],
        is_public: bool,
        is_test: bool,
    ) {
        let mut path = prefix.to_vec();
        let line = self.tokens[at.min(self.tokens.len() - 1)].line;
        if self.text(at) == "::" {
            return;
        }
        while at < end {
            match self.text(at) {
                "::" => at += 1,
                "{" => {
                    let close = self.matching(at);
                    let mut from = at + 1;
                    while from < close {
                        let mut to = from;
                        while to < close && self.text(to) != "," {
                            to = if self.text(to) == "{" { self.matching(to) } else { to } + 1;
                        }
                        if to > from {
                            self.import(from, to, &path, is_public, is_test);
                        }
                        from = to + 1;
                    }
                    return;
                }
                "*" => {
                    let named = self.named(path, line, is_test);
                    self.module.globs.push(named);
                    return;
                }
                "as" => {
                    let alias = self.text(at + 1).to_owned();
                    let named = self.named(path, line, is_test);
                    self.bind(alias, named, is_public);
                    return;
                }
                word => {
                    if word != "self" || path.is_empty() {
                        path.push(word.to_owned());
                    }
                    at += 1;
                }
            }
        }
        let Some(name) = path.last().cloned() else { return };
        let named = self.named(path, line, is_test);
        self.bind(name, named, is_public);
    }

    /// A path as the file has it: within a module in braces, the first `super` is the file.
    fn named(&self, mut path: Vec<String>, line: usize, is_test: bool) -> Named {
        for _ in 0..self.depth {
            if path.first().is_some_and(|word| word == "super") {
                path.remove(0);
            }
        }
        if self.depth > 0 && path.is_empty() {
            path.push("self".to_owned());
        }
        Named { path, line, is_test }
    }

    fn bind(&mut self, name: String, named: Named, is_public: bool) {
        // Names of tests do not take the place of others.
        let imports = &mut self.module.imports;
        if !(named.is_test && imports.get(&name).is_some_and(|import| !import.named.is_test)) {
            imports.insert(name, Import { named, is_public });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_of(files: &[(&str, &str)]) -> Crate {
        let files: BTreeMap<PathBuf, String> =
            files.iter().map(|(file, source)| (file.into(), (*source).to_owned())).collect();
        Crate::of(Path::new("lib.rs"), &|file| files.get(file).cloned())
    }

    fn edges(files: &[(&str, &str)]) -> Vec<String> {
        let edges = crate_of(files).edges().into_iter();
        edges
            .map(|edge| {
                let test = if edge.is_test { " in tests" } else { "" };
                format!("{} -> {}{test}", edge.from.join("::"), edge.to.join("::"))
            })
            .collect()
    }

    #[test]
    fn paths_are_resolved_to_files() {
        let root = ("lib.rs", "mod a; mod b; pub use b::deep::Thing;");
        let b = ("b/mod.rs", "mod deep; mod side; pub use deep::{Thing, Other as Named};");
        let deep = ("b/deep.rs", "pub struct Thing; pub struct Other;");
        for (a, side, expected) in [
            ("use super::b::Thing;", "", vec!["a -> b::deep"]),
            ("use crate::Thing;", "", vec!["a -> b::deep"]),
            (
                "use crate::b::{self}; fn f() -> b::Named { b::f() }",
                "",
                vec!["a -> b", "a -> b::deep"],
            ),
            ("fn f() { crate::b::deep::g(super::b::h) }", "", vec!["a -> b", "a -> b::deep"]),
            ("use crate::b as c; fn f() { c::deep::g() }", "", vec!["a -> b::deep"]),
            (
                "",
                "use super::super::a; use super::deep::*; fn f() { a::f() }",
                vec!["b::side -> a", "b::side -> b::deep"],
            ),
            (
                "// use crate::b::Thing;\nuse std::b::Thing; const T: &str = \"crate::b::f\";",
                "",
                vec![],
            ),
            (
                "#[cfg(test)] mod tests { use crate::b::deep::Thing; }",
                "",
                vec!["a -> b::deep in tests"],
            ),
            ("#[cfg(test)]\nmod tests;", "", vec!["a::tests -> b::deep in tests"]),
        ] {
            let files = [
                root,
                ("a.rs", a),
                b,
                deep,
                ("b/side.rs", side),
                ("a/tests.rs", "use crate::b::Thing;"),
            ];
            assert_eq!(edges(&files), expected, "{a} {side}");
        }
    }

    #[test]
    fn circles_are_found() {
        let root = ("lib.rs", "mod a; mod b; mod c;");
        let circles = |a: &str, b: &str, c: &str, [d, e]: [&str; 2]| -> Vec<Vec<String>> {
            let files =
                [root, ("a.rs", a), ("b.rs", b), ("c/mod.rs", c), ("c/d.rs", d), ("c/e.rs", e)];
            crate_of(&files).circles().into_iter().map(|circle| circle.modules).collect()
        };
        let none = [""; 2];
        assert!(circles("use super::b::T;", "use super::c::T;", "pub struct T;", none).is_empty());
        // Of three, through a grouped import and a path in the code.
        let c = "use crate::a::T;";
        let found = circles("use super::{b::{T, U}};", "fn f() { crate::c::f() }", c, none);
        assert_eq!(found, [["a", "b", "c"]]);
        // Through different files of a module; and within it, through a re-export.
        let c = "mod d; mod e; pub use e::U;";
        let found = circles("use crate::c::d::T;", "", c, ["", "use crate::a::T;"]);
        assert_eq!(found, [["a", "c"]]);
        let found = circles("", "", c, ["use super::U;", "use super::d::T;"]);
        assert_eq!(found, [["c::d", "c::e"]]);
        // A module and those within it are one, and what only tests name is no part of a crate.
        let c = "mod d; mod e; pub struct T; fn f() { d::g() }";
        assert!(circles("", "", c, ["use super::T;", "use super::d::U;"]).is_empty());
        let test = "#[cfg(test)] mod tests { use super::super::a::f; }";
        assert!(circles("use super::b::T;", test, "", none).is_empty());
    }
}
