//! The borders of ARCHITECTURE.md, checked on the sources: arrows point down only, the framework
//! stays in its rooms, and unsafe code in its crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The rooms, lowest floor first. A room may use what lies on a lower floor, nothing beside it.
const FLOORS: [&[&str]; 10] = [
    &["error"],
    &["images", "files", "locks", "named", "quantities"],
    &["control"],
    &["schedule", "timesteps", "noise", "formats", "device", "vocabulary"],
    &["denoiser", "dataset", "draw", "render", "eval"],
    &["sampler", "unet"],
    &["model"],
    &["train"],
    &["experiments"],
    // The crate's root, which names them all.
    &["lib"],
];

/// The modules that may use the kernels.
const KERNEL_MODULES: [&str; 5] = ["unet", "eval", "train", "device", "experiments"];

/// The modules that may use Burn.
const FRAMEWORK_MODULES: [&str; 2] = ["unet", "device"];

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&src).unwrap();
                let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
                let room = first.trim_end_matches(".rs").to_owned();
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((room, path, text));
            }
        }
    }
    assert!(found.len() > 30, "the sources are not where they are looked for");
    found
}

/// Lines without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(n, line)| (n + 1, line))
}

/// The rooms that a line names as `crate::room`.
fn named_rooms(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn arrows_point_down() {
    let floors: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, rooms)| rooms.iter().map(move |&room| (room, floor)))
        .collect();
    // What the root re-exports.
    let aliases: BTreeMap<&str, &str> =
        [("Error", "error"), ("ErrorKind", "error"), ("Result", "error"), ("Images", "images")]
            .into();
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        let Some(&floor) = floors.get(room.as_str()) else {
            panic!("room `{room}` stands on no floor: add it to FLOORS and ARCHITECTURE.md");
        };
        for (number, line) in code(&text) {
            for named in named_rooms(line) {
                let other = aliases.get(named).copied().unwrap_or(named);
                if other == room {
                    continue;
                }
                match floors.get(other) {
                    Some(&below) if below < floor => {}
                    _ => wrong.push(format!("{}:{number}: {room} -> {other}", path.display())),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that do not point down:\n{}", wrong.join("\n"));
}

#[test]
fn grouped_imports_are_not_used_to_slip_through() {
    // `use crate::{a, b}` would hide rooms from the test above.
    for (_, path, text) in sources() {
        for (number, line) in code(&text) {
            assert!(!line.contains("crate::{"), "{}:{number}: {line}", path.display());
        }
    }
}

#[test]
fn the_framework_and_the_kernels_stay_in_their_modules() {
    for (room, path, text) in sources() {
        for (number, line) in code(&text) {
            for (name, modules) in
                [("burn_", &FRAMEWORK_MODULES[..]), ("kao_kernels", &KERNEL_MODULES)]
            {
                assert!(
                    !line.contains(name) || modules.contains(&room.as_str()),
                    "{}:{number}: {room} uses {name}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_room_is_on_the_map() {
    let map = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let map = std::fs::read_to_string(map).unwrap();
    for room in FLOORS.iter().flat_map(|floor| floor.iter()).filter(|room| **room != "lib") {
        assert!(map.contains(&format!("`{room}`")), "ARCHITECTURE.md does not name `{room}`");
    }
}
