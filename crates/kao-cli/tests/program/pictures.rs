//! `prepare`, `draw`, `convert`, `info`, `recover` and `sweep` on what they are made for.

use crate::fixture::{kao, names, with_model, workplace};
use image::{Rgb, RgbImage, Rgba, RgbaImage};

fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([seed, x * 7 + seed, y * 5].map(|v| v as u8)))
}

#[test]
fn raw_pictures_of_every_kind_are_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    std::fs::create_dir_all(raw.join("more")).unwrap();
    picture(40, 40, 1).save(raw.join("a.png")).unwrap();
    picture(40, 40, 1).save(raw.join("more/copy.bmp")).unwrap();
    picture(60, 32, 2).save(raw.join("wide.jpg")).unwrap();
    RgbaImage::from_pixel(32, 32, Rgba([255, 0, 0, 0])).save(raw.join("clear.png")).unwrap();
    image::GrayImage::from_fn(32, 32, |x, _| image::Luma([x as u8]))
        .save(raw.join("grey.png"))
        .unwrap();
    picture(8, 8, 3).save(raw.join("tiny.png")).unwrap();
    std::fs::write(raw.join("broken.jpg"), b"\xff\xd8\xff\xe0 and no more").unwrap();
    std::fs::write(raw.join("notes.txt"), b"words").unwrap();

    let out = kao(folder.path(), "prepare raw out --size 32").ok().out;
    assert!(out.contains("4") && out.contains("broken.jpg") && out.contains("tiny.png"), "{out}");
    assert_eq!(
        names(&folder.path().join("out")),
        ["a.png", "clear.png", "grey.png", "prepare.json", "wide.png"]
    );
    for name in ["a.png", "clear.png", "grey.png", "wide.png"] {
        let made = image::open(folder.path().join("out").join(name)).unwrap().into_rgb8();
        assert_eq!(made.dimensions(), (32, 32), "{name}");
        if name == "clear.png" {
            assert_eq!(*made.get_pixel(5, 5), Rgb([255; 3]), "alpha is laid over white");
        }
    }

    let ran = kao(folder.path(), "prepare raw strict --size 32 --strict");
    assert_eq!(ran.code, Some(1));
    assert!(ran.error().contains("broken.jpg"), "{ran:?}");
    assert!(!folder.path().join("strict").exists());
    kao(folder.path(), "prepare raw all --size 32 --keep-duplicates --fit stretch").ok();
    assert!(folder.path().join("all/more/copy.png").is_file());
}

#[test]
fn an_unfinished_preparation_is_not_trained_on() {
    let folder = workplace();
    let report = folder.path().join("faces/prepare.json");
    kao(folder.path(), "prepare faces ready --size 16").ok();
    let done = std::fs::read_to_string(folder.path().join("ready/prepare.json")).unwrap();
    assert!(done.contains("\"complete\": true"), "{done}");
    std::fs::write(report, done.replace("\"complete\": true", "\"complete\": false")).unwrap();
    let ran = kao(folder.path(), "train --config small.toml --data faces --out run");
    assert_eq!(ran.error(), "error: `faces`: the preparation of this folder was interrupted");
    assert!(!folder.path().join("run").exists());
}

#[test]
fn drawing_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let out = kao(folder.path(), "draw --count 2 --size 16 --out faces").ok().out;
    assert_eq!(out, "2 faces drawn: faces\n");
    let out = kao(folder.path(), "draw --count 3 --size 16 --out faces").ok().out;
    assert_eq!(out, "1 face drawn, 2 were there: faces\n");
    let out = kao(folder.path(), "info faces/face-000001.png").ok().out;
    assert!(out.contains("seed 999, index 1"), "{out}");
}

#[test]
fn models_are_converted_and_described() {
    let (folder, arguments) = with_model("convert MODEL sub/half.safetensors --half");
    assert_eq!(kao(folder.path(), &arguments).ok().out, "sub/half.safetensors\n");
    let half = std::fs::metadata(folder.path().join("sub/half.safetensors")).unwrap().len();
    let whole = std::fs::metadata(crate::fixture::model()).unwrap().len();
    assert!(half * 3 < whole * 2, "{half} of {whole}");
    let out = kao(folder.path(), "info sub/half.safetensors --tensors").ok().out;
    for words in [
        "image size               16 x 16 pixels, 3 channels",
        "steps                    4",
        "f16   [32, 3, 3, 3]",
        "0 missing, 0 unused, 0 of wrong shape",
    ] {
        assert!(out.contains(words), "{words} is not in {out}");
    }
    kao(folder.path(), "sample --model sub/half.safetensors --count 1 --steps 1").ok();
}

#[test]
fn recovery_writes_its_picture_and_tells_the_psnr() {
    let (folder, arguments) =
        with_model("recover --model MODEL --data FACES --t 5 --count 2 --out a/b/r.png");
    let ran = kao(folder.path(), &arguments).ok();
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with("PSNR noisy ") && lines[0].ends_with(" dB"), "{lines:?}");
    assert!(lines[1].starts_with("PSNR recovered ") && lines[1].ends_with(" dB"), "{lines:?}");
    assert_eq!(lines[2], "a/b/r.png");
    let told = kao(folder.path(), "info a/b/r.png").ok().out;
    for key in ["model", "origin_bug", "psnr_noisy", "psnr_recovered", "seed", "t"] {
        assert!(told.lines().any(|line| line.starts_with(key)), "{told}");
    }
    let (folder, arguments) = with_model(
        "recover --model MODEL --data FACES/face-000000.png FACES/face-000001.png --t 5 --eta 1",
    );
    kao(folder.path(), &arguments).ok();
    assert_eq!(names(folder.path()), ["recover.png"]);
}

#[test]
fn a_sweep_goes_on_and_its_page_shows_all_pictures() {
    let (folder, arguments) =
        with_model("sweep --model MODEL --out a/sweep --count 2 --columns 2 --max-steps 10");
    assert_eq!(kao(folder.path(), &arguments).ok().out, "a/sweep/index.html\n");
    let sweep = folder.path().join("a/sweep");
    let page = std::fs::read_to_string(sweep.join("index.html")).unwrap();
    let files = names(&sweep);
    let pictures: Vec<&String> = files.iter().filter(|name| name.ends_with(".png")).collect();
    assert_eq!(pictures.len(), 4, "{files:?}");
    for name in &pictures {
        assert!(page.contains(&format!("src=\"{name}\"")), "{name} is not in the page");
    }

    // Again: everything is kept. With one run's record gone: that run alone is made again.
    let ran = kao(folder.path(), &arguments).ok();
    assert_eq!(ran.err, "s0010-eta0.0: done before\ns0010-eta1.0: done before\n");
    assert_eq!(std::fs::read_to_string(sweep.join("index.html")).unwrap(), page);
    let before = std::fs::read(sweep.join("grid-s0010-eta1.0.png")).unwrap();
    std::fs::remove_file(sweep.join("s0010-eta1.0.json")).unwrap();
    let ran = kao(folder.path(), &arguments).ok();
    let words = "s0010-eta0.0: done before\n1 run with 20 evaluations of the network: about ";
    assert!(ran.err.starts_with(words), "{ran:?}");
    assert!(!ran.err.contains("eta1.0: done before"), "{ran:?}");
    assert_eq!(std::fs::read(sweep.join("grid-s0010-eta1.0.png")).unwrap(), before);
}

#[test]
fn a_sweep_with_another_model_of_the_same_name_starts_afresh() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("m.safetensors");
    std::fs::copy(crate::fixture::model(), &place).unwrap();
    let arguments = "sweep --model m.safetensors --out sweep --count 1 --max-steps 10";
    kao(folder.path(), arguments).ok();
    let mut bytes = std::fs::read(&place).unwrap();
    // The last value of the last tensor.
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&0.5f32.to_le_bytes());
    std::fs::write(&place, bytes).unwrap();
    let ran = kao(folder.path(), arguments).ok();
    assert!(!ran.err.contains("done before"), "{ran:?}");
}
