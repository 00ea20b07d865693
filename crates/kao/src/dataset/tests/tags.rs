use crate::dataset::{Classes, Tags};
use std::path::Path;

const NAMES: [&str; 4] = ["a.png", "b.jpg", "cats/c.png", "cats/wild/d.png"];

fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn read(files: &[(&str, &str)], classes: Option<Classes>) -> crate::Result<Tags> {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        write(dir.path(), name, content);
    }
    Tags::read(dir.path(), NAMES, classes)
}

#[test]
fn every_source_is_read_and_merged() {
    let tags = read(
        &[
            (
                "metadata.jsonl",
                "\u{feff}{\"file_name\": \"a.png\", \"tags\": [\"Blue_Hair\", \"a, b\"], \"width\": 64}\n\n\
                 {\"file_name\": \"./cats/c.png\", \"text\": \"sleepy, on a mat\", \"fur\": true, \"dog\": false, \"label\": 3, \"x\": null}\n\
                 {\"file_name\": \"gone.png\", \"tags\": []}\n",
            ),
            ("cats/metadata.jsonl", "{\"file_name\":\"wild/d.png\",\"tags\":\"claws\"}"),
            ("a.txt", "smile,\nglasses, smile"),
            ("b.caption", "hat"),
            ("dataset.json", "{\"labels\": [[\"b.jpg\", 7], [\"none.png\", 1]]}"),
        ],
        None,
    )
    .unwrap();
    assert_eq!(tags.of("a.png"), ["a b", "blue hair", "glasses", "smile"]);
    assert_eq!(tags.of("b.jpg"), ["class 7", "hat"]);
    assert_eq!(tags.of("cats/c.png"), ["class 3", "fur", "on a mat", "sleepy"]);
    assert_eq!(tags.of("cats/wild/d.png"), ["claws"]);
    assert_eq!(tags.n_tagged(), 4);
    let warnings = tags.warnings().join("\n");
    for part in ["1 line of ", "1 column of ", "`width`", "1 label of "] {
        assert!(warnings.contains(part), "{warnings} lacks {part}");
    }
}

#[test]
fn folders_are_classes_where_that_is_asked_for() {
    assert_eq!(read(&[], None).unwrap().n_tagged(), 0);
    let tags = read(&[], Some(Classes::Folders)).unwrap();
    assert_eq!(tags.of("cats/wild/d.png"), ["cats"]);
    assert!(tags.of("a.png").is_empty());
}

#[test]
fn broken_lists_are_refused_by_line() {
    for (name, content, expected) in [
        (
            "metadata.jsonl",
            "{\"file_name\": \"a.png\"}\n{\"tags\": []}",
            "line 2: no text `file_name`",
        ),
        ("metadata.jsonl", "[1, 2]", "line 1: not a JSON object"),
        ("metadata.jsonl", "{\"file_name\": \"a.png\"", "line 1: not a JSON object"),
        ("dataset.json", "{\"labels\": [[\"b.jpg\", -1]]}", "expected {\"labels\""),
        ("dataset.json", "", "expected {\"labels\""),
    ] {
        let error = read(&[(name, content)], None).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");
        assert!(error.len() < 500);
    }
    let long = format!("{{\"file_name\": \"a.png\", \"tags\": \"{}\"}}", "x".repeat(1 << 21));
    let error = read(&[("metadata.jsonl", &long)], None).unwrap_err().to_string();
    assert!(error.contains("line 1: longer than"), "{error}");
}

#[test]
fn texts_in_any_usual_encoding_are_read_and_others_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let utf16 = |text: &str| -> Vec<u8> {
        [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    write(dir.path(), "a.txt", utf16("青い髪, smile"));
    write(dir.path(), "b.txt", b"\x90\xc2\x82\xa2\x94\xaf");
    write(dir.path(), "cats/c.txt", "");
    write(dir.path(), "cats/wild/d.txt", format!("cat, {}", "word ".repeat(100)));
    let tags = Tags::read(dir.path(), NAMES, None).unwrap();
    assert_eq!(tags.of("a.png"), ["smile", "青い髪"]);
    assert!(tags.of("b.jpg").is_empty() && tags.of("cats/c.png").is_empty());
    assert_eq!(tags.of("cats/wild/d.png"), ["cat"]);
    let warnings = tags.warnings().join("\n");
    assert!(
        warnings.contains("the tags beside 1 picture cannot be read; of `b.jpg`"),
        "{warnings}"
    );
    assert!(warnings.contains("more than 200 bytes"), "{warnings}");
}

#[test]
fn ten_thousand_tags_are_too_many_for_one_picture() {
    let many: Vec<String> = (0..10_000).map(|k| format!("tag {k:05}")).collect();
    let tags = read(&[("a.txt", &many.join(", "))], None).unwrap();
    assert_eq!(tags.of("a.png").len(), 1000);
    assert!(tags.warnings()[0].contains("only the first 1000 tags"), "{:?}", tags.warnings());
}

#[test]
fn tags_go_with_the_pictures_to_other_names() {
    let tags = read(&[("a.txt", "smile"), ("b.txt", "hat"), ("cats/c.txt", "cat")], None).unwrap();
    let renamed = tags.renamed(|name| match name {
        "a.png" | "b.jpg" => Some("one.png"),
        _ => None,
    });
    assert_eq!(renamed.of("one.png"), ["hat", "smile"]);
    assert_eq!(renamed.to_jsonl(), "{\"file_name\":\"one.png\",\"tags\":[\"hat\",\"smile\"]}\n");
    assert_eq!(renamed.n_tagged(), 1);
}
