//! `compare`: every combination once, its page and its tables; going on after an interruption.

use crate::fixture::{command, kao, names, with_model};
use serde_json::Value;
use std::fs;
use std::path::Path;

const COMPARE: &str = "compare --model MODEL --samplers ddim,heun --steps 2,3 --etas 0,1 --count 5 \
                       --columns 2 --data FACES --out compared";

fn compare(folder: &Path, arguments: &str) -> crate::fixture::Ran {
    let (_, arguments) = with_model(arguments);
    kao(folder, &arguments)
}

#[test]
fn every_combination_is_made_once_and_told_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let ran = compare(folder.path(), COMPARE).ok();
    assert!(ran.out.ends_with("compared/index.html\n"), "{ran:?}");
    // 2 × 2 of DDIM and 2 of Heun, which has no η; 5 images.
    let n_evaluations = 5 * (2 + 3 + 2 + 3 + 3 + 5);
    let words = format!("6 runs with {n_evaluations} evaluations of the network: about ");
    assert!(ran.err.contains(&words), "{ran:?}");

    let place = folder.path().join("compared");
    let read = |name: &str| fs::read_to_string(place.join(name)).unwrap();
    let json: Value = serde_json::from_str(&read("compare.json")).unwrap();
    let comparisons = json["comparisons"].as_array().unwrap();
    let of = |key: &str| comparisons.iter().map(|of| of[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("evaluations"), [2, 3, 2, 3, 3, 5].map(Value::from));
    let csv = read("compare.csv");
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 7);
    assert_eq!(rows[6][..4], ["heun", "", "3", "5"]);
    for (row, comparison) in rows[1..].iter().zip(comparisons) {
        let ratio: f64 = row[7].parse().unwrap();
        let distance = |key: &str| comparison[key].as_f64().unwrap();
        assert!((ratio - distance("distance") / distance("floor")).abs() < 1e-6, "{row:?}");
        assert!(distance("distance") > 0.0 && distance("seconds_per_image") > 0.0);
    }
    // The page needs nothing but itself.
    let page = read("index.html");
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 6);
    assert!(!page.contains("http://") || page.matches("http").count() == 1, "but for SVG's name");
    assert!(!page.contains("<script") && !page.contains("<link"), "{}", page.len());
    assert!(page.contains("<svg") && page.contains("prefers-color-scheme:dark"));
    for name in of("name") {
        let name = name.as_str().unwrap();
        let grid = image::image_dimensions(place.join(format!("grid-{name}.png"))).unwrap();
        assert_eq!(grid, (38, 56), "5 images of 16 pixels in 2 columns");
        assert!(page.contains(&format!("href=\"grid-{name}.png\"")));
    }
    assert!(read("chart.svg").starts_with("<svg"));
}

#[test]
fn what_is_done_is_kept_as_far_as_its_pictures_prove_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("compared");
    compare(folder.path(), COMPARE).ok();
    let pictures: Vec<String> =
        names(&place).into_iter().filter(|name| name.ends_with(".png")).collect();
    assert_eq!(pictures.len(), 12);
    let bytes = || -> Vec<Vec<u8>> {
        pictures.iter().map(|name| fs::read(place.join(name)).unwrap()).collect()
    };
    let before = bytes();
    let again = |arguments: &str| {
        let ran = compare(folder.path(), arguments).ok();
        ran.err.matches("done before").count()
    };
    let table = fs::read_to_string(place.join("compare.csv")).unwrap();
    assert_eq!(again(COMPARE), 6);
    assert_eq!(fs::read_to_string(place.join("compare.csv")).unwrap(), table);
    // A picture that is gone, and one of another seed, are made again, in other batches.
    fs::remove_file(place.join("first-heun-s0002.png")).unwrap();
    fs::copy(place.join("grid-ddim-s0002-eta0.png"), place.join("grid-heun-s0003.png")).unwrap();
    assert_eq!(again(&format!("{COMPARE} --batch-size 2 --threads 1")), 4);
    assert!(before == bytes(), "the same images, in any batch and with any number of threads");
    // More combinations: those that were made stay.
    assert_eq!(again(&COMPARE.replace("2,3", "2,3,4")), 6);
    assert_eq!(again(&COMPARE.replace("--data FACES", "--seed 5")), 0);
}

#[test]
fn samplers_are_compared_at_equal_cost() {
    let folder = tempfile::tempdir().unwrap();
    let ran = compare(
        folder.path(),
        "compare --model MODEL --samplers ddim heun --evaluations 3,4 --count 1 --out compared",
    )
    .ok();
    let costs = |name: &str| -> Vec<(usize, usize)> {
        let rows = ran.out.lines().filter(|line| line.starts_with(name));
        let number = |word: Option<&str>| word.unwrap().parse().unwrap();
        let row = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            (number(words.next()), number(words.next()))
        };
        rows.map(row).collect()
    };
    assert_eq!(costs("DDIM"), [(3, 3), (4, 4)]);
    // Its steps cost two, but the last: 3 of 4.
    assert_eq!(costs("Heun"), [(2, 3)]);
    let written = names(&folder.path().join("compared"));
    assert!(!written.contains(&"chart.svg".to_owned()), "{written:?}");
}

#[test]
fn what_cannot_be_compared_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        ("--steps 0", "--steps 0: must be at least 1"),
        ("--steps 101", "--steps 101: must be at most 1000"),
        ("--etas 2", "--etas 2: must be between 0 and 1"),
        ("--count 0", "--count 0: must be at least 1"),
        ("--data FACES --count 1", "--count 1: must be at least 2, better 256"),
        ("--data missing", "missing"),
    ] {
        let arguments = arguments.replace("--steps 101", "--steps 1001");
        let words = words.replace("101:", "1001:");
        let ran = compare(folder.path(), &format!("compare --model MODEL --out no {arguments}"));
        assert!(ran.error().contains(&words), "{arguments}: {ran:?}");
        assert!(!folder.path().join("no").exists(), "{arguments}");
    }
    let ran = kao(folder.path(), "compare --out no --steps 5 --evaluations 5");
    assert!(ran.error().contains("cannot be used with"), "{ran:?}");
    let ran = kao(folder.path(), "compare --out no --samplers ddim,dpm");
    assert!(ran.err.contains("a similar value exists: 'dpm++'"), "{ran:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn two_comparisons_do_not_write_to_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = "compare --model built-in --steps 900 --out compared";
    let mut first = command(folder.path(), arguments);
    let mut first = first.stderr(std::process::Stdio::null()).spawn().unwrap();
    let started = std::time::Instant::now();
    while !folder.path().join("compared").exists() {
        assert!(started.elapsed() < std::time::Duration::from_secs(60));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    let ran = kao(folder.path(), arguments);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(ran.error().contains("another `kao compare` is writing to this folder"), "{ran:?}");
}
