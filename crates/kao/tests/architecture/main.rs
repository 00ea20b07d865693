//! The borders of ARCHITECTURE.md, checked on the sources: arrows point down only, no modules
//! name each other in a circle, the framework stays in its modules, and unsafe code in its crate.

use modules::{Crate, Edge};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod modules;
mod tokens;

/// The modules of the library, lowest layer first. A module may use what lies on a lower layer,
/// nothing beside it.
const LAYERS: [&[&str]; 10] = [
    &["error"],
    &["images", "files", "named", "quantities", "shard"],
    &["control", "locks", "memory", "ranks"],
    &["schedule", "timesteps", "noise", "formats", "device", "vocabulary", "hub"],
    &["denoiser", "dataset", "draw", "render", "eval"],
    &["sampler", "unet"],
    &["guidance"],
    &["model"],
    &["train"],
    &["requests"],
];

/// The modules that may use the kernels.
const KERNEL_MODULES: [&str; 5] = ["unet", "eval", "train", "device", "requests"];

/// The modules that may use Burn.
const FRAMEWORK_MODULES: [&str; 2] = ["unet", "device"];

fn crates_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn library() -> Crate {
    let library = Crate::read(&crates_folder().join("kao/src/lib.rs"));
    assert!(library.modules.len() > 100, "the sources are not where they are looked for");
    library
}

/// Edges as a list of lines, each with the place where the name stands.
fn listed<'a>(of: &Crate, edges: impl Iterator<Item = &'a Edge>) -> Vec<String> {
    edges
        .map(|Edge { from, to, line, .. }| {
            let file = of.modules[from].file.display();
            format!("{file}:{line}: {} -> {}", from.join("::"), to.join("::"))
        })
        .collect()
}

/// The edges between modules of a layered crate that do not point down.
fn upward<'a>(edges: impl Iterator<Item = &'a Edge>, layers: &[&[&str]]) -> Vec<&'a Edge> {
    let layer_of: BTreeMap<&str, usize> = layers
        .iter()
        .enumerate()
        .flat_map(|(layer, modules)| modules.iter().map(move |&module| (module, layer)))
        .collect();
    let layer = |module: &str| {
        let found = layer_of.get(module).copied();
        found.unwrap_or_else(|| panic!("`{module}` is in no layer: add it to LAYERS and the map"))
    };
    edges
        .filter(|edge| match (edge.from.first(), edge.to.first()) {
            (Some(from), Some(to)) => from != to && layer(to) >= layer(from),
            // The root names all modules, and nobody names the root.
            (from, _) => from.is_some(),
        })
        .collect()
}

#[test]
fn arrows_point_down() {
    let library = library();
    let edges = library.edges();
    let wrong = listed(&library, upward(edges.iter(), &LAYERS).into_iter());
    assert!(wrong.is_empty(), "arrows that do not point down:\n{}", wrong.join("\n"));
}

#[test]
fn an_arrow_upward_is_found() {
    let files = [
        ("lib.rs", "mod low; mod high; mod beside;"),
        ("low.rs", "pub struct T;"),
        ("high.rs", "use super::low::T; fn f() { super::beside::f() }"),
        ("beside.rs", "fn f(_: crate::low::T) {}"),
    ];
    let planted = |source: &'static str| {
        let read = |file: &Path| match file.to_str() {
            Some("low.rs") => Some(source.to_owned()),
            _ => {
                let mut files = files.iter();
                files.find(|(name, _)| Path::new(name) == file).map(|(_, text)| (*text).to_owned())
            }
        };
        let found = Crate::of(Path::new("lib.rs"), &read);
        let edges = found.edges();
        let wrong = upward(edges.iter(), &[&["low"], &["high", "beside"]]);
        wrong.iter().map(|edge| format!("{} -> {}", edge.from[0], edge.to[0])).collect::<Vec<_>>()
    };
    assert_eq!(planted("pub struct T;"), ["high -> beside"]);
    assert_eq!(planted("use super::{high::{self}}; fn f() { high::g() }").len(), 2);
}

#[test]
fn no_modules_name_each_other_in_a_circle() {
    let roots = [
        "kao/src/lib.rs",
        "kao-kernels/src/lib.rs",
        "kao-studio/src/lib.rs",
        "kao-cli/src/main.rs",
    ];
    let circles = roots.iter().flat_map(|root| {
        let of = Crate::read(&crates_folder().join(root));
        let circles = of.circles().into_iter().map(|circle| {
            let edges = listed(&of, circle.edges.iter()).join("\n");
            format!("{root}: {}:\n{edges}", circle.modules.join(", "))
        });
        circles.collect::<Vec<_>>()
    });
    let circles: Vec<String> = circles.collect();
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n\n"));
}

#[test]
fn front_ends_do_not_name_each_other() {
    // The command that starts the server is all that the terminal knows of it.
    for (root, other, allowed) in [
        ("kao-studio/src/lib.rs", "kao_cli", None),
        ("kao-cli/src/main.rs", "kao_studio", Some("commands/studio.rs")),
    ] {
        let root = crates_folder().join(root);
        let of = Crate::read(&root);
        for module in of.modules.values() {
            let source =
                std::fs::read_to_string(root.parent().unwrap().join(&module.file)).unwrap();
            let names_it = tokens::tokens(&source).into_iter().find(|token| token.text == other);
            if let Some(token) = names_it {
                let file = module.file.display().to_string();
                assert_eq!(Some(file.as_str()), allowed, "line {}: {other}", token.line);
            }
        }
    }
}

#[test]
fn commands_do_not_name_each_other() {
    let program = Crate::read(&crates_folder().join("kao-cli/src/main.rs"));
    let edges = program.edges();
    let command = |path: &[String]| match path {
        [commands, command, ..] if commands == "commands" => Some(command.clone()),
        _ => None,
    };
    let wrong = edges.iter().filter(|edge| match (command(&edge.from), command(&edge.to)) {
        (Some(from), Some(to)) => from != to,
        _ => false,
    });
    let wrong = listed(&program, wrong);
    assert!(wrong.is_empty(), "commands that name others:\n{}", wrong.join("\n"));
    let n_commands = program.modules.keys().filter_map(|path| command(path)).count();
    assert!(n_commands > 10, "{n_commands} commands");
}

#[test]
fn the_framework_and_the_kernels_stay_in_their_modules() {
    let folder = crates_folder().join("kao/src");
    for (path, module) in library().modules {
        let Some(first) = path.first() else { continue };
        let source = std::fs::read_to_string(folder.join(&module.file)).unwrap();
        for token in tokens::tokens(&source) {
            for (name, modules) in
                [("burn_", &FRAMEWORK_MODULES[..]), ("kao_kernels", &KERNEL_MODULES)]
            {
                assert!(
                    !token.text.starts_with(name) || modules.contains(&first.as_str()),
                    "{}:{}: {first} uses {name}",
                    module.file.display(),
                    token.line
                );
            }
        }
    }
}

#[test]
fn the_library_names_no_flags() {
    // Errors name fields; which flag that is, the program says. A hint may give a whole command.
    let folder = crates_folder().join("kao/src");
    let mut wrong = Vec::new();
    for (path, module) in library().modules {
        if path.iter().any(|part| part == "tests") {
            continue;
        }
        let source = std::fs::read_to_string(folder.join(&module.file)).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        for (index, line) in source.lines().enumerate() {
            let is_flag = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
            let names_one = line.match_indices("--").any(|(at, _)| is_flag(&line[at + 2..]));
            // Comments are not read by users; how to build the program is no flag of the program.
            let is_comment = line.trim_start().starts_with("//");
            let is_command = ["cargo build ", "`kao "].iter().any(|start| line.contains(start));
            if names_one && !is_comment && !is_command {
                wrong.push(format!("{}:{}: {}", module.file.display(), index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "flags in the library:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_is_on_the_map() {
    let map = std::fs::read_to_string(crates_folder().join("../ARCHITECTURE.md")).unwrap();
    for module in LAYERS.iter().flat_map(|layer| layer.iter()) {
        assert!(map.contains(&format!("`{module}`")), "ARCHITECTURE.md does not name `{module}`");
    }
}
