//! `eval`: distances, floor and neighbours, of a model's samples and of a folder's pictures.

use crate::fixture::{kao, names, trained, with_model};
use image::RgbImage;
use serde_json::Value;

/// The JSON object of a run of `eval` with `arguments`.
fn evaluated(arguments: &str) -> Value {
    let (folder, arguments) = with_model(&format!("eval {arguments} --json"));
    let out = kao(folder.path(), &arguments).ok().out;
    assert_eq!(out.lines().count(), 1, "{out}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn a_models_samples_are_compared_with_pictures() {
    let (folder, arguments) = with_model(
        "eval --model MODEL --data FACES --count 8 --steps 2 --neighbours a/nn.png --rows 3",
    );
    let ran = kao(folder.path(), &arguments).ok();
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "8 of 8 samples against two sets of 8 of 24 different pictures");
    for start in ["level", "16 x 16", "average", "samples"] {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{start} is not in {lines:?}");
    }
    assert_eq!(lines.last(), Some(&"a/nn.png"));
    assert!(ran.err.contains("warning: sets of 8 pictures are small"), "{ran:?}");
    // A header of 12 pixels above 3 rows of pictures at twice their size.
    let (_, height) = image::image_dimensions(folder.path().join("a/nn.png")).unwrap();
    assert_eq!(height, 12 + 2 + 3 * (32 + 2));
    let told = kao(folder.path(), "info a/nn.png").ok().out;
    for key in ["model", "data", "steps", "eta", "seed", "count"] {
        assert!(told.lines().any(|line| line.starts_with(key)), "{key} is not in {told}");
    }
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn the_same_seed_gives_the_same_numbers_on_any_number_of_threads() {
    let arguments = "--model MODEL --data FACES --count 8 --steps 2 --eta 1";
    let once = evaluated(&format!("{arguments} --threads 1 --batch-size 3"));
    assert_eq!(once, evaluated(&format!("{arguments} --threads 2")));
    let other = evaluated(&format!("{arguments} --seed 1"));
    assert_ne!(once["levels"], other["levels"]);
    assert_eq!(once["settings"]["eta"], "1");
    // The nearest pictures by name, of no more samples than asked for.
    let listed = |arguments: &str| {
        let of = evaluated(&format!("--model MODEL --data FACES --count 8 --steps 2 {arguments}"));
        of["neighbours"].as_array().unwrap().clone()
    };
    let three = listed("--rows 3");
    assert_eq!(three.len(), 3);
    assert!(three[0]["nearest"][0]["file"].as_str().unwrap().ends_with(".png"), "{three:?}");
    assert_eq!(listed("--rows 3 --all-neighbours").len(), 8);
}

#[test]
fn copies_are_found_out() {
    let copied = evaluated("--samples FACES --data FACES --all-neighbours");
    assert_eq!(copied["n_compared"], 12);
    let neighbours = copied["neighbours"].as_array().unwrap();
    let n_copies = neighbours.iter().filter(|of| of["nearest"][0]["rms"] == 0.0).count();
    // All but those that are held out.
    assert!((20..=24).contains(&n_copies), "{copied}");
    assert_eq!(copied["samples"]["least"], 0.0);
    // A barely trained model makes noise.
    let sampled = evaluated("--model MODEL --data FACES --count 8 --steps 2");
    assert!(sampled["samples"]["least"].as_f64().unwrap() > 10.0);
    let average = |of: &Value| of["average"]["samples"].as_f64().unwrap();
    assert!(average(&sampled) > average(&copied), "{sampled} {copied}");
}

#[test]
fn what_cannot_be_evaluated_is_told() {
    let (folder, _) = with_model("");
    let path = folder.path();
    let folders: [(&str, &[u32]); 3] =
        [("mixed", &[16, 20]), ("small", &[8, 8]), ("few", &[16, 16, 16])];
    for (name, sizes) in folders {
        std::fs::create_dir(path.join(name)).unwrap();
        for (number, &size) in sizes.iter().enumerate() {
            let picture = RgbImage::from_fn(size, size.min(16), |x, y| {
                image::Rgb([x as u8 * 9, y as u8 * 5, number as u8])
            });
            picture.save(path.join(name).join(format!("{number}.png"))).unwrap();
        }
    }
    let before = names(path);
    for (arguments, code, error) in [
        (
            "--model MODEL --data missing",
            1,
            "cannot read `missing`: No such file or directory (os error 2)",
        ),
        (
            "--model MODEL --data few",
            1,
            "`few`: 3 pictures found; a distance takes at least 4, better thousands",
        ),
        (
            "--model MODEL --data FACES --count 1",
            2,
            "--count 1: must be at least 2, better a thousand",
        ),
        ("--model MODEL --data FACES --count 0", 2, "--count 0: must be at least 1"),
        (
            "--model MODEL --data FACES --steps 0",
            2,
            "--steps 0: must be between 1 and 1000, the number of timesteps",
        ),
        (
            "--model MODEL --data FACES --sampler ddpm --eta 1",
            2,
            "--eta: only applies with ddim, dpm++, dpm++-sde, euler-a",
        ),
        (
            "--model MODEL --data FACES --neighbours nn",
            2,
            "`nn`: pictures are written as PNG, expected a name that ends in .png",
        ),
        (
            "--samples FACES --data FACES --count 30",
            2,
            "--count 30: must be at most 24, the pictures in `FACES`",
        ),
        (
            "--samples mixed --data FACES",
            1,
            "`mixed`: `0.png` has 16 × 16 pixels, `1.png` 16 × 20; expected pictures of one size",
        ),
        (
            "--samples small --data FACES",
            2,
            "--samples: images of 8 × 8 pixels found; expected at least 16 × 16",
        ),
        (
            "--samples FACES --data FACES --steps 3",
            2,
            "the argument '--samples <DIR>' cannot be used with '--steps <N>'",
        ),
        ("--model MODEL", 2, "the following required arguments were not provided: --data <DIR>"),
    ] {
        let ran = kao(path, &with_model(&format!("eval {arguments}")).1);
        assert_eq!(ran.error(), format!("error: {}", with_model(error).1), "{arguments}");
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{arguments}");
        assert_eq!(names(path), before, "{arguments}");
    }
    let faces = trained().join("faces");
    let ran = kao(path, &format!("eval --samples few --data {}", faces.display())).ok();
    assert!(ran.out.starts_with("3 of 3 samples"), "{ran:?}");
}
