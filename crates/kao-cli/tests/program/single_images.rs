//! Images in files of their own, chosen, enlarged, labelled and animated.

use crate::fixture::{command, kao, model, names, trained, with_model};
use kao::formats::{StoreAs, TensorView, write_safetensors};
use kao::noise::SeededNoise;
use std::fs;
use std::path::Path;

/// What a picture says of itself under `key`.
fn text(folder: &Path, picture: &str, key: &str) -> String {
    let told = kao(folder, &format!("info {picture}")).ok().out;
    let line = told.lines().find(|line| line.starts_with(&format!("{key} ")));
    line.unwrap_or_else(|| panic!("{key}: {told}"))[key.len()..].trim().to_owned()
}

#[test]
fn an_image_has_the_same_bytes_alone_picked_and_in_a_folder() {
    let (folder, sample) = with_model("sample --model MODEL --steps 2 --eta 1 --seed 7");
    let folder = folder.path();
    let ran = kao(folder, &format!("{sample} --count 5 --batch-size 2 --out all/")).ok();
    assert_eq!(ran.out, "all/\n");
    let expected: Vec<String> = (0..5).map(|k| format!("seed-7-image-0000{k}.png")).collect();
    assert_eq!(names(&folder.join("all")), expected);
    kao(folder, &format!("{sample} --pick 4,1 --batch-size 1 --threads 1 --out picked/")).ok();
    assert_eq!(names(&folder.join("picked")), ["seed-7-image-00001.png", "seed-7-image-00004.png"]);
    kao(folder, &format!("{sample} --first 3 --count 2 --out later/")).ok();
    let read = |path: &str| fs::read(folder.join(path)).unwrap();
    for (one, other) in [("picked", 1), ("picked", 4), ("later", 3), ("later", 4)] {
        let name = format!("seed-7-image-0000{other}.png");
        assert!(read(&format!("{one}/{name}")) == read(&format!("all/{name}")), "{one} {other}");
    }
    // Alone in a grid it is the same file, however it is asked for.
    for alone in ["--pick 3", "--first 3 --count 1"] {
        kao(folder, &format!("{sample} {alone} --out alone.png")).ok();
        assert!(read("alone.png") == read("all/seed-7-image-00003.png"), "{alone}");
    }
    // In a grid of all its pixels are the same.
    kao(folder, &format!("{sample} --count 5 --out grid.png")).ok();
    let grid = image::open(folder.join("grid.png")).unwrap().into_rgb8();
    let alone = image::open(folder.join("alone.png")).unwrap().into_rgb8();
    let at = |x, y| *grid.get_pixel(2 + 3 * 18 + x, 2 + y);
    assert!(alone.enumerate_pixels().all(|(x, y, pixel)| *pixel == at(x, y)));

    // What it says repeats it.
    let picture = "all/seed-7-image-00003.png";
    assert_eq!([text(folder, picture, "seed"), text(folder, picture, "image")], ["7", "3"]);
    let said = text(folder, picture, "command");
    let said = said.strip_prefix("kao ").unwrap();
    assert!(said.contains("--pick 3"), "{said}");
    kao(folder, &format!("{said} --out again.png")).ok();
    assert!(read("again.png") == read(picture));
}

#[test]
fn a_folder_goes_on_with_what_is_missing_and_keeps_what_is_proven() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::copy(model(), folder.join("m.safetensors")).unwrap();
    let sample = "sample --model m.safetensors --steps 2 --count 3 --out all/";
    kao(folder, sample).ok();
    let path = |k: usize| folder.join(format!("all/seed-999-image-0000{k}.png"));
    let before: Vec<Vec<u8>> = (0..3).map(|k| fs::read(path(k)).unwrap()).collect();
    // One is missing, one is cut short.
    fs::remove_file(path(0)).unwrap();
    fs::write(path(1), &before[1][..before[1].len() / 2]).unwrap();
    let ran = kao(folder, sample).ok();
    assert!(ran.err.contains("1 of 3 images done before"), "{ran:?}");
    for (k, before) in before.iter().enumerate() {
        assert!(fs::read(path(k)).unwrap() == *before, "image {k}");
    }
    assert!(kao(folder, sample).ok().err.contains("3 of 3 images done before"));
    // Other settings and another model of the same name are other images.
    let ran = kao(folder, &sample.replace("--steps 2", "--steps 3")).ok();
    assert!(!ran.err.contains("done before"), "{ran:?}");
    let mut bytes = fs::read(folder.join("m.safetensors")).unwrap();
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&0.5f32.to_le_bytes());
    fs::write(folder.join("m.safetensors"), bytes).unwrap();
    let ran = kao(folder, &sample.replace("--steps 2", "--steps 3")).ok();
    assert!(!ran.err.contains("done before"), "{ran:?}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_folder_holds_whole_files_and_goes_on() {
    let (folder, sample) = with_model("sample --model MODEL --steps 4 --batch-size 2 --count 400");
    let folder = folder.path();
    let mut child = command(folder, &format!("{sample} --out all/"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let n_files = || fs::read_dir(folder.join("all")).map_or(0, |entries| entries.count());
    while n_files() < 6 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let _ = std::process::Command::new("kill").arg(child.id().to_string()).status();
    child.wait().unwrap();
    for name in names(&folder.join("all")).iter().filter(|name| name.ends_with(".png")) {
        image::open(folder.join("all").join(name)).unwrap();
    }
    let sample = sample.replace("--count 400", "--count 8");
    let ran = kao(folder, &format!("{sample} --out all/")).ok();
    assert!(ran.err.contains("of 8 images done before"), "{ran:?}");
    kao(folder, &format!("{sample} --out fresh/")).ok();
    for name in names(&folder.join("fresh")) {
        let read = |of: &str| fs::read(folder.join(of).join(&name)).unwrap();
        assert!(read("all") == read("fresh"), "{name}");
    }
}

#[test]
fn a_folder_of_samples_is_evaluated_and_a_grid_is_told_apart() {
    let (folder, sample) = with_model("sample --model MODEL --steps 1 --count 4");
    let (folder, faces) = (folder.path(), trained().join("faces"));
    fs::create_dir(folder.join("s")).unwrap();
    kao(folder, &format!("{sample} --out s/grid.png")).ok();
    let eval = format!("eval --samples s --data {}", faces.display());
    let ran = kao(folder, &eval);
    assert!(ran.error().starts_with("error: `s`: 1 picture found"), "{ran:?}");
    assert!(ran.err.contains("hint: a grid is one picture: where a folder is named"), "{ran:?}");
    fs::remove_file(folder.join("s/grid.png")).unwrap();
    // A folder that is there needs no separator.
    kao(folder, &format!("{sample} --out s")).ok();
    let ran = kao(folder, &eval).ok();
    assert!(ran.out.starts_with("4 of 4 samples"), "{ran:?}");
}

#[test]
fn images_are_enlarged_and_labelled() {
    let (folder, sample) = with_model("sample --model MODEL --steps 1");
    let folder = folder.path();
    let size = |arguments: &str| {
        kao(folder, &format!("{sample} {arguments} --out a.png")).ok();
        image::image_dimensions(folder.join("a.png")).unwrap()
    };
    assert_eq!(size("--count 3 --scale 4"), (2 + 3 * 66, 68));
    let (width, height) = size("--count 3 --scale 4 --labels");
    assert!(width == 2 + 3 * 66 && height > 80, "{width} {height}");
    let (plain, labelled) = (size("--pick 2"), size("--pick 2 --labels"));
    assert!(plain == (16, 16) && labelled.1 > 24, "{plain:?} {labelled:?}");
    // Wishes stand there in the place of numbers.
    let grid = |rows: &str| size(&format!("--rows {rows} --columns-of girl,boy --labels")).1;
    assert!(grid("smile+girl,smile") > grid("smile,girl"), "longer labels take more lines");
    let ran = kao(folder, &format!("{sample} --scale 0"));
    assert_eq!(ran.error(), "error: --scale 0: must be between 1 and 64");
}

#[test]
fn wishes_of_a_grid_go_with_their_numbers() {
    let (folder, sample) =
        with_model("sample --model MODEL --steps 1 --rows smile,girl --columns-of boy,sad");
    let folder = folder.path();
    kao(folder, &format!("{sample} --out all/")).ok();
    kao(folder, &format!("{sample} --pick 2 --out alone.png")).ok();
    let read = |path: &str| fs::read(folder.join(path)).unwrap();
    assert!(read("alone.png") == read("all/seed-999-image-00002.png"));
    kao(folder, &format!("{sample} --first 3 --out last.png")).ok();
    assert!(read("last.png") == read("all/seed-999-image-00003.png"));
    let ran = kao(folder, &format!("{sample} --pick 4"));
    assert_eq!(
        ran.error(),
        "error: --pick 4: must be below 4, to be one of the 4 images that tags are given for"
    );
}

#[test]
fn contradictions_are_refused() {
    let (folder, sample) = with_model("sample --model MODEL --steps 1");
    for (arguments, words) in [
        ("--pick 1 --count 2", "--count: only applies without --pick"),
        ("--pick 1 --first 2", "--first: only applies without --pick"),
        ("--pick 1,1", "--pick: names image 1 twice"),
        ("--count 2 --out all/ --strip s.png", "--strip: only applies where all images go to one"),
        ("--count 2 --out a.jpg", "`a.jpg`: pictures are written as PNG"),
        ("--count 2 --out a.gif --fps 0", "--fps 0: must be between 1 and 50"),
    ] {
        let ran = kao(folder.path(), &format!("{sample} {arguments}"));
        assert!(ran.error().starts_with(&format!("error: {words}")), "{arguments}: {ran:?}");
    }
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn the_process_is_animated() {
    let (folder, sample) = with_model("sample --model MODEL --steps 4 --count 2");
    let folder = folder.path();
    for name in ["a.gif", "a.apng", "a.webp"] {
        let ran = kao(folder, &format!("{sample} --out {name} --strip-of x0 --strip s.png")).ok();
        assert_eq!(ran.out, format!("{name}\ns.png\n"));
        let said = text(folder, name, "command");
        assert!(
            said.contains(&format!("--out {name} ")) && said.ends_with("--strip-of x0"),
            "{said}"
        );
        let bytes = fs::read(folder.join(name)).unwrap();
        kao(folder, said.strip_prefix("kao ").unwrap()).ok();
        assert!(bytes == fs::read(folder.join(name)).unwrap(), "{name}");
    }
    // Four steps have four predictions; the last picture is the result.
    use image::AnimationDecoder;
    let file = std::io::Cursor::new(fs::read(folder.join("a.webp")).unwrap());
    let frames = image::codecs::webp::WebPDecoder::new(file).unwrap().into_frames();
    let frames = frames.collect_frames().unwrap();
    assert_eq!(frames.len(), 4);
    kao(folder, &format!("{sample} --out grid.png")).ok();
    let grid = image::open(folder.join("grid.png")).unwrap().into_rgba8();
    assert!(*frames[3].buffer() == grid);
}

#[test]
fn an_interpolation_begins_and_ends_with_the_images_of_its_seeds() {
    let (folder, ways) =
        with_model("interpolate --model MODEL --steps 2 --eta 1 --between 3,17 --frames 4");
    let (folder, model) = (folder.path(), model());
    kao(folder, &format!("{ways} --out ways/ --batch-size 3")).ok();
    let expected: Vec<String> = (0..4).map(|k| format!("frame-0000{k}.png")).collect();
    assert_eq!(names(&folder.join("ways")), expected);
    let pixels = |path: &str| image::open(folder.join(path)).unwrap().into_rgb8();
    for (seed, frame) in [(3, 0), (17, 3)] {
        let sample = format!("sample --model {} --steps 2 --eta 1", model.display());
        kao(folder, &format!("{sample} --seed {seed} --pick 0 --out end.png")).ok();
        assert!(pixels("end.png") == pixels(&format!("ways/frame-0000{frame}.png")), "{seed}");
    }
    // One alone, and as it says itself.
    let read = |path: &str| fs::read(folder.join(path)).unwrap();
    kao(folder, &format!("{ways} --pick 2 --threads 1 --out alone.png")).ok();
    assert!(read("alone.png") == read("ways/frame-00002.png"));
    let said = text(folder, "alone.png", "command");
    kao(folder, &format!("{} --out again.png", said.strip_prefix("kao ").unwrap())).ok();
    assert!(read("again.png") == read("alone.png"));
    assert!(kao(folder, &format!("{ways} --out ways")).ok().err.contains("4 of 4 images done"));

    // Rows lead from one to the next, and an animation that ends where it began loops.
    let three = ways.replace("3,17", "3,17,3");
    kao(folder, &format!("{three} --out grid.png")).ok();
    assert_eq!(pixels("grid.png").dimensions(), (2 + 4 * 18, 2 + 2 * 18));
    let ran = kao(folder, &format!("{three} --out loop.apng --labels --scale 2")).ok();
    assert!(ran.err.contains("7 images · steps of "), "{ran:?}");
    use image::AnimationDecoder;
    let file = std::io::Cursor::new(read("loop.apng"));
    let frames = image::codecs::png::PngDecoder::new(file).unwrap().apng().unwrap().into_frames();
    assert_eq!(frames.count(), 6);
}

#[test]
fn noise_of_a_file_is_gone_between_too() {
    let (folder, ways) =
        with_model("interpolate --model MODEL --sampler ddim --steps 2 --frames 3");
    let (folder, model) = (folder.path(), model());
    let noise = SeededNoise { seed: 1, first_image: 0 }.x_t(3, [3, 16, 16]);
    let shape = noise.shape();
    let view = TensorView { shape: &shape, data: noise.data() };
    let path = folder.join("noise.safetensors");
    write_safetensors(&path, [("x_T", view)], &Default::default(), StoreAs::F32).unwrap();
    let ways = format!("{ways} --latents noise.safetensors");
    kao(folder, &format!("{ways} --out ways/")).ok();
    assert_eq!(names(&folder.join("ways")).len(), 5);
    let sample = format!("sample --model {} --sampler ddim --steps 2", model.display());
    kao(folder, &format!("{sample} --noise noise.safetensors --out ends/")).ok();
    let pixels = |path: &str| image::open(folder.join(path)).unwrap().into_rgb8();
    for (frame, end) in [(0, 0), (2, 1), (4, 2)] {
        let end = pixels(&format!("ends/noise-image-0000{end}.png"));
        assert!(pixels(&format!("ways/frame-0000{frame}.png")) == end, "{frame}");
    }
    // Chosen in another order; other noise under the same name is other images.
    kao(folder, &format!("{ways} --images 2,0 --pick 0 --out last.png")).ok();
    assert!(pixels("last.png") == pixels("ends/noise-image-00002.png"));
    assert!(kao(folder, &format!("{ways} --out ways/")).ok().err.contains("5 of 5 images done"));
    let doubled: Vec<f32> = noise.data().iter().map(|value| 2.0 * value).collect();
    let view = TensorView { shape: &shape, data: &doubled };
    write_safetensors(&path, [("x_T", view)], &Default::default(), StoreAs::F32).unwrap();
    assert!(!kao(folder, &format!("{ways} --out ways/")).ok().err.contains("done before"));
    let ran = kao(folder, &format!("{ways} --images 0,3"));
    let expected = "error: --images 3: must be below 3, to be one of the 3 images of `noise.safe";
    assert!(ran.error().starts_with(expected), "{ran:?}");
    let ran = kao(folder, &format!("{ways} --eta 1"));
    assert!(ran.error().contains("no tensor `z`"), "{ran:?}");
}

#[test]
fn what_an_interpolation_cannot_go_between_is_refused() {
    let (folder, ways) = with_model("interpolate --model MODEL --steps 1");
    for (arguments, words) in [
        ("", "--between: none given; expected two or more seeds"),
        ("--between 3", "--between: names 1 seed; expected two or more"),
        ("--images 3", "--images: names 1 image; expected two or more"),
        ("--between 3,4 --images 1,2", "--images: only applies without --between"),
        ("--between 3,4 --frames 1", "--frames 1: must be at least 2"),
        (
            "--between 3,4 --frames 2 --pick 2",
            "--pick 2: must be below 2, to be one of the 2 images in all",
        ),
        ("--latents no.safetensors", "cannot read `no.safetensors`"),
    ] {
        let ran = kao(folder.path(), &format!("{ways} {arguments}"));
        assert!(ran.error().starts_with(&format!("error: {words}")), "{arguments}: {ran:?}");
    }
    assert_eq!(names(folder.path()), [""; 0]);
}
