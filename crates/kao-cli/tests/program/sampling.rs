//! `sample`: the same bytes whatever the batch, noise from a file, the original's arrays.

use crate::fixture::{kao, model, trained, with_model};
use kao::device::DeviceKind;
use kao::formats::{NamedTensors, StoreAs, TensorView, read, write_safetensors};
use kao::model::Model;
use kao::noise::{NoiseSource, SeededNoise};
use kao::requests::Sample;
use kao::sampler::{
    Ddim, Ddpm, DpmPlusPlus, DpmPlusPlus3M, DpmPlusPlusSde, Euler, EulerAncestral, Heun, Sampler,
    UniPc,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SHAPE: [usize; 3] = [3, 16, 16];

fn write(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let views = tensors.iter().map(|&(name, shape, data)| (name, TensorView { shape, data }));
    write_safetensors(path, views.collect::<Vec<_>>(), &BTreeMap::new(), StoreAs::F32).unwrap();
}

/// x_0 of a run of `sample` with `arguments`.
fn x_0(folder: &Path, arguments: &str) -> Vec<f32> {
    kao(folder, &format!("sample {arguments} --save-tensors x_0.safetensors")).ok();
    read(folder.join("x_0.safetensors")).unwrap().tensors.get("x_0").unwrap().data().to_vec()
}

/// x_T and z of `n` images and `n_steps` steps, as the program itself draws them from seed 999.
fn drawn(n: usize, n_steps: usize) -> (Vec<f32>, Vec<f32>) {
    let noise = SeededNoise { seed: 999, first_image: 0 };
    let x_t = noise.x_t(n, SHAPE).into_vec();
    let size = x_t.len() / n;
    let mut z = vec![0.0; n_steps * n * size];
    for (index, z) in z.chunks_exact_mut(size).enumerate() {
        noise.fill(index / n, index % n, z);
    }
    (x_t, z)
}

fn write_noise(path: &Path, n: usize, n_steps: usize) {
    let (x_t, z) = drawn(n, n_steps);
    write(path, &[("x_T", &[n, 3, 16, 16], &x_t), ("z", &[n_steps, n, 3, 16, 16], &z)]);
}

#[test]
fn an_image_is_the_same_bytes_in_any_batch_on_any_number_of_threads() {
    let (folder, arguments) = with_model("--model MODEL --count 7 --steps 3 --eta 1");
    let whole = x_0(folder.path(), &format!("{arguments} --batch-size 64 --threads 2"));
    for others in [
        "--batch-size 1 --threads 2",
        "--batch-size 5 --threads 2",
        "--batch-size 64 --threads 1",
        "--batch-size 5 --threads 1",
    ] {
        assert!(whole == x_0(folder.path(), &format!("{arguments} {others}")), "{others}");
    }
    let fewer = x_0(folder.path(), &arguments.replace("--count 7", "--count 2"));
    assert!(whole[..fewer.len()] == fewer[..], "fewer images");
    let others = x_0(folder.path(), &format!("{arguments} --seed 1000"));
    assert!(whole != others, "another seed");
}

#[test]
fn so_it_is_for_every_sampler() {
    let (folder, arguments) = with_model("--model MODEL --count 4 --steps 4");
    for sampler in Sampler::all() {
        for spacing in ["trailing", "karras"] {
            let name = sampler.name();
            let arguments = format!("{arguments} --sampler {name} --spacing {spacing}");
            let run = |others: &str| x_0(folder.path(), &format!("{arguments} {others}"));
            let whole = run("--batch-size 4 --threads 2");
            assert!(whole == run("--batch-size 3 --threads 1"), "{name} {spacing}");
        }
    }
}

#[test]
fn cost_is_told_in_evaluations_of_the_network() {
    let (folder, arguments) = with_model("sample --model MODEL --count 1 --sampler heun");
    let ran = kao(folder.path(), &arguments).ok();
    assert!(ran.err.contains("Heun 20 steps, 39 evaluations of the network"), "{ran:?}");
    let out = kao(folder.path(), "info grid.png").ok().out;
    assert!(out.contains("evaluations              39"), "{out}");
    let ran = kao(folder.path(), &arguments.replace("heun", "unipc")).ok();
    assert!(ran.err.contains("UniPC 20 steps · "), "{ran:?}");
    // A setting that a sampler does not have.
    for name in ["heun", "euler", "unipc", "dpm++-3m", "ddpm"] {
        let ran = kao(folder.path(), &format!("sample --sampler {name} --eta 0.5"));
        let error = "error: --eta: only applies with ddim, dpm++, dpm++-sde, euler-a";
        assert_eq!((ran.error(), ran.code), (error, Some(2)), "{name}");
    }
}

#[test]
fn given_noise_gives_what_its_seed_gives_and_what_the_library_gives() {
    let (folder, arguments) = with_model("--model MODEL --steps 4");
    let path = folder.path();
    write_noise(&path.join("noise.safetensors"), 3, 4);
    let loaded = Model::load(model(), &DeviceKind::Cpu.open().unwrap()).unwrap();
    let cases: [(&str, Sampler); 12] = [
        ("--eta 1", Ddim { eta: 1.0 }.into()),
        ("--eta 0", Ddim { eta: 0.0 }.into()),
        ("--sampler ddim", Ddim { eta: 0.0 }.into()),
        ("--sampler dpm++ --eta 1", DpmPlusPlus { eta: 1.0 }.into()),
        ("", DpmPlusPlus { eta: 0.0 }.into()),
        ("--sampler ddpm", Ddpm::default().into()),
        ("--sampler euler", Euler {}.into()),
        ("--sampler heun", Heun {}.into()),
        ("--sampler unipc", UniPc {}.into()),
        ("--sampler dpm++-3m", DpmPlusPlus3M {}.into()),
        ("--sampler dpm++-sde --eta 0.5", DpmPlusPlusSde { eta: 0.5 }.into()),
        ("--sampler euler-a", EulerAncestral { eta: 1.0 }.into()),
    ];
    for (flags, sampler) in cases {
        let given = x_0(path, &format!("{arguments} {flags} --noise noise.safetensors"));
        let seeded = x_0(path, &format!("{arguments} {flags} --count 3"));
        assert!(given == seeded, "{flags}: by noise and by seed");
        let sampled = Sample::from(&loaded).count(3).steps(4).sampler(sampler).run().unwrap();
        assert!(given == sampled.images.data(), "{flags}: by program and by library");
    }
}

#[test]
fn noise_that_does_not_fit_is_refused_by_name() {
    let (folder, arguments) =
        with_model("sample --model MODEL --steps 4 --eta 1 --noise n.safetensors");
    let path = folder.path().join("n.safetensors");
    let (x_t, z) = drawn(2, 3);
    let shape = [2, 3, 16, 16];
    let mut holed = x_t.clone();
    holed[7] = f32::NAN;
    let mut endless = z.clone();
    endless[9] = f32::INFINITY;
    type Case<'a> = (Vec<(&'a str, &'a [usize], &'a [f32])>, &'a str);
    let cases: Vec<Case<'_>> = vec![
        (vec![("x", &shape, &x_t)], "no tensor `x_T`; it holds x"),
        (vec![("x_T", &[1536], &x_t)], "`x_T` is [1536]; expected [N, C, H, W]"),
        (
            vec![("x_T", &[2, 3, 32, 8], &x_t)],
            "`x_T` is [2, 3, 32, 8]; expected [N, 3, 16, 16], the images of the model",
        ),
        (vec![("x_T", &[0, 3, 16, 16], &[])], "`x_T` holds no image; expected at least one"),
        (vec![("x_T", &shape, &holed)], "`x_T` holds NaN; expected finite numbers"),
        (vec![("x_T", &shape, &x_t)], "no tensor `z`; the sampler draws noise in each of 4"),
        (
            vec![("x_T", &shape, &x_t), ("z", &[3, 2, 3, 16, 16], &z)],
            "`z` holds the noise of 3 steps; the sampler draws noise in each of 4",
        ),
        (
            vec![("x_T", &shape, &x_t), ("z", &[3, 2, 3, 256], &z)],
            "`z` is [3, 2, 3, 256]; expected [S, N, C, H, W] to go with `x_T` of [2, 3, 16, 16]",
        ),
        (
            vec![("x_T", &shape, &x_t), ("z", &[3, 2, 3, 16, 16], &endless)],
            "`z` holds inf; expected finite numbers",
        ),
    ];
    for (tensors, error) in cases {
        write(&path, &tensors);
        let ran = kao(folder.path(), &arguments);
        assert_eq!(ran.error(), format!("error: `n.safetensors`: {error}"));
        assert_eq!(ran.code, Some(1));
    }
    // The first so many images of the noise, and no more than it holds.
    write_noise(&path, 2, 4);
    let walk = arguments.strip_prefix("sample ").unwrap();
    let both = x_0(folder.path(), walk);
    let first = x_0(folder.path(), &format!("{walk} --count 1"));
    assert!(both[..both.len() / 2] == first[..], "the first image of the noise");
    let ran = kao(folder.path(), &format!("{arguments} --count 3"));
    let error = "--count 3: must be at most the 2 images whose noise `n.safetensors` holds";
    assert_eq!(ran.error(), format!("error: {error}"));
    // A walk that draws none needs no z.
    write(&path, &[("x_T", &shape, &x_t)]);
    kao(folder.path(), &arguments.replace("--eta 1", "--eta 0")).ok();
}

#[test]
fn pictures_say_how_they_were_made() {
    let (folder, arguments) = with_model(
        "sample --model MODEL --steps 3 --eta 0.5 --seed 7 --count 2 --out g.png --strip s.png --strip-moments 99",
    );
    assert_eq!(kao(folder.path(), &arguments).ok().out, "g.png\ns.png\n");
    for name in ["g.png", "s.png"] {
        let out = kao(folder.path(), &format!("info {name}")).ok().out;
        for words in [
            "sampler                  ddim",
            "steps                    3",
            "eta                      0.5",
            "seed                     7",
            "spacing                  trailing",
        ] {
            assert!(out.contains(words), "{words} is not in {out}");
        }
        assert!(out.contains(model().to_str().unwrap()), "{out}");
    }
    // 2 images of 16 pixels at 4 moments, 2 pixels between and around.
    assert_eq!(image::image_dimensions(folder.path().join("s.png")).unwrap(), (74, 38));
    assert_eq!(image::image_dimensions(folder.path().join("g.png")).unwrap(), (38, 20));
}

#[test]
fn a_run_directory_is_a_model_too() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.png");
    kao(trained(), &format!("sample --model run --count 1 --steps 1 --out {}", out.display())).ok();
    assert!(out.is_file());
}

#[test]
fn the_originals_walks_are_reproduced() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/reference"));
    if !folder.join("tiny.ckpt").is_file() {
        println!("skipped: the arrays of the original are not there");
        return;
    }
    let checkpoint = folder.join("tiny.ckpt").canonicalize().unwrap();
    let place = tempfile::tempdir().unwrap();
    let noise = place.path().join("noise.safetensors");
    let arrays = read(folder.join("tiny.ddim.safetensors")).unwrap().tensors;
    let mut n_walks = 0;
    for name in arrays.names() {
        // ddim.<spacing>.steps<S>.eta<η>.x_T
        let Some(walk) = name.strip_suffix(".x_T") else { continue };
        let parts: Vec<&str> = walk.splitn(4, '.').collect();
        let (steps, eta) = (&parts[2]["steps".len()..], &parts[3]["eta".len()..]);
        write_as_noise(&noise, &arrays, walk);
        let flags = format!(
            "--model {} --noise noise.safetensors --spacing {} --steps {steps} --eta {eta}",
            checkpoint.display(),
            parts[1]
        );
        let found = x_0(place.path(), &flags);
        let expected = arrays.get(&format!("{walk}.x_0")).unwrap().data();
        let largest = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let error = found.iter().zip(expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(error < 1e-3 * largest, "{walk}: {error} of {largest}");
        n_walks += 1;
    }
    assert!(n_walks > 0);
}

fn write_as_noise(path: &Path, arrays: &NamedTensors, walk: &str) {
    let tensors: Vec<_> = ["x_T", "z"]
        .into_iter()
        .filter_map(|name| {
            let tensor = arrays.get(&format!("{walk}.{name}"))?;
            Some((name, tensor.shape(), tensor.data()))
        })
        .collect();
    write(path, &tensors);
}

#[test]
fn without_a_model_the_built_in_one_is_used_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let ran = kao(folder.path(), "sample --count 1 --steps 10 --out face.png").ok();
    assert_eq!(ran.err.lines().filter(|line| line.contains("built-in")).count(), 1, "{ran:?}");
    assert_eq!(image::image_dimensions(folder.path().join("face.png")).unwrap(), (64, 64));
    let named = "sample --model built-in --count 1 --steps 10 --out named.png";
    kao(folder.path(), named).ok();
    let pixels = |name: &str| image::open(folder.path().join(name)).unwrap().into_rgb8();
    assert_eq!(pixels("face.png"), pixels("named.png"));
    let ran = kao(folder.path(), "sample --raw-weights --count 1");
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[test]
fn the_built_in_model_is_guided_unless_something_else_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let sampled = |arguments: &str, name: &str| {
        let command = format!("sample --count 1 --steps 4 --out {name} {arguments}");
        let err = kao(folder.path(), &command).ok().err;
        (image::open(folder.path().join(name)).unwrap().into_rgb8(), err)
    };
    let (guided, said) = sampled("", "guided.png");
    assert!(said.contains("guided by built-in-guide"), "{said}");
    // What is used is said, and can be asked for by name.
    let told = kao(folder.path(), "info guided.png").ok().out;
    assert!(told.contains("built-in-guide"), "{told}");
    let of = |key: &str| {
        let value = told.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        value.trim().to_owned()
    };
    let (guidance, interval) = (of("own_guidance "), of("own_guidance_interval "));
    let named =
        format!("--guide built-in-guide --guidance {guidance} --guidance-interval {interval}");
    assert_eq!(sampled(&named, "named.png").0, guided);
    // The model alone, whether the file or its name is given.
    let (alone, said) = sampled("--guidance 1", "alone.png");
    assert!(alone != guided && !said.contains("guide"), "{said}");
    kao(folder.path(), "convert built-in mine.safetensors").ok();
    assert_eq!(sampled("--guidance 1 --model mine.safetensors", "mine.png").0, alone);
    assert_eq!(sampled("--model mine.safetensors", "mine-guided.png").0, guided);
    // Tags guide above the noise levels of the guide.
    let (_, said) = sampled("--avoid glasses", "without.png");
    assert!(said.contains("guidance 2, twice the evaluations · guided by built-in"), "{said}");
    let told = kao(folder.path(), "info built-in-guide").ok().out;
    assert!(told.contains("parameters"), "{told}");
    // Pictures that were encoded come back along the way of the model alone.
    kao(folder.path(), "encode guided.png --steps 20 --out latents.safetensors").ok();
    let decode = "sample --noise latents.safetensors --sampler ddim --steps 20 --out back.png";
    let said = kao(folder.path(), decode).ok().err;
    assert!(!said.contains("guide"), "{said}");
    let back = image::open(folder.path().join("back.png")).unwrap().into_rgb8();
    let difference: u64 =
        back.iter().zip(guided.iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    assert!(difference < 4 * 3 * 64 * 64, "{difference}");
}
