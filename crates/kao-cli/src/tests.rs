//! Requests and command lines say the same: what a request prints is parsed to an equal request.

use super::*;
use kao::dataset::Classes;
use kao::denoiser::Prediction;
use kao::device::DeviceKind;
use kao::requests::{
    Benchmark, Compare, Compute, Convert, Draw, Edit, Encode, Evaluate, Interpolate, ModelSource,
    Prepare, Recover, Request, Sample, Sweep, Target, Train, Wishes,
};
use kao::sampler::{Ddim, Ddpm, InversionConfig, Sampler, SamplingConfig, SnapshotOf, Variance};
use kao::shard::Shard;
use kao::timesteps::{End, Spacing};
use kao::train::{Decay, Optimizer, TimestepSampling};

/// The command that a command line stands for.
fn parsed(words: &[String]) -> Command {
    let words = [&["kao".to_owned()], words].concat();
    let matches = parser().try_get_matches_from(&words);
    let matches = matches.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    Arguments::from_arg_matches(&matches).unwrap().command
}

fn repeats<R: Request + PartialEq + std::fmt::Debug>(
    request: &R,
    typed: impl Fn(Command) -> Option<R>,
) {
    let line = request.command_line().unwrap();
    let again = typed(parsed(line.arguments()));
    assert_eq!(again.as_ref(), Some(request), "{line}");
}

fn repeats_sample(request: &Sample) {
    repeats(request, |command| match command {
        Command::Sample(arguments) => Some(arguments.request().unwrap()),
        _ => None,
    });
}

fn repeats_recover(request: &Recover) {
    repeats(request, |command| match command {
        Command::Recover(arguments) => Some(arguments.request().unwrap()),
        _ => None,
    });
}

fn repeats_train(request: &Train) {
    repeats(request, |command| match command {
        Command::Train(arguments) => Some(arguments.request()),
        _ => None,
    });
}

fn model() -> ModelSource {
    ModelSource { path: Some("my run/model.safetensors".into()), raw_weights: true }
}

fn compute() -> Compute {
    Compute { device: DeviceKind::Vulkan, threads: Some(3) }
}

fn sampling() -> SamplingConfig {
    SamplingConfig {
        sampler: Some(Ddpm { variance: Some(Variance::Beta), final_noise: true }.into()),
        steps: Some(7),
        spacing: Some(Spacing::Quadratic),
        end: Some(End::FirstTimestep),
        clip: true,
        ..SamplingConfig::default()
    }
}

#[test]
fn the_command_line_of_a_request_repeats_it() {
    let out = Some("grid.png".into());
    let plain = Sample { out: out.clone(), ..Sample::default() };
    repeats_sample(&plain);
    repeats_sample(&Sample {
        model: model(),
        shard: None,
        sampling: sampling(),
        wishes: Wishes {
            tags: Some("blue hair, smile".into()),
            avoid: Some("-hat".into()),
            rows: Some("sad,shy".into()),
            columns_of: Some("boy".into()),
            guidance: Some(-1.5),
            guidance_rescale: 0.5,
            guidance_interval: Some([0.25, 3.0]),
            guide: Some("weak.safetensors".into()),
            tags_from: None,
            own_guide: None,
            asks_for_others: false,
        },
        count: Some(3),
        first: 7,
        pick: vec![],
        seed: u64::MAX,
        noise: Some("-noise.safetensors".into()),
        batch_size: 5,
        out: Some("it's a grid.png".into()),
        columns: 3,
        strip: Some("strip.png".into()),
        strip_images: 2,
        strip_snapshots: 4,
        strip_of: SnapshotOf::X0,
        scale: 3,
        labels: true,
        frames: 9,
        fps: 25,
        save_tensors: Some("x.safetensors".into()),
        compute: compute(),
    });
    repeats_sample(&Sample { pick: vec![17, 40], out: Some("faces/".into()), ..Sample::default() });
    for sampler in Sampler::all().into_iter().chain([Ddim { eta: 0.25 }.into()]) {
        let sampling = SamplingConfig { sampler: Some(sampler), ..plain.sampling };
        repeats_sample(&Sample { sampling, ..plain.clone() });
        let data = vec!["a.png".into(), "b.png".into()];
        repeats_recover(&Recover { data, sampler, out: out.clone(), ..Recover::default() });
    }
    for &spacing in Spacing::ALL {
        let sampling = SamplingConfig { spacing: Some(spacing), ..plain.sampling };
        repeats_sample(&Sample { sampling, ..plain.clone() });
    }
    repeats_recover(&Recover {
        model: model(),
        data: vec!["faces".into()],
        t: Some(40),
        sampler: Ddim { eta: 1.0 }.into(),
        steps: Some(4),
        count: 2,
        seed: 1,
        out,
        origin_bug: true,
        batch_size: 2,
        compute: compute(),
    });
}

#[test]
fn so_do_those_of_edits() {
    let repeats_it = |request: &Edit| {
        repeats(request, |command| match command {
            Command::Edit(arguments) => Some(arguments.request().unwrap()),
            _ => None,
        });
    };
    let out = Some("edit.png".into());
    let pictures = vec!["a picture.png".into(), "b.png".into()];
    repeats_it(&Edit { pictures: pictures.clone(), out: out.clone(), ..Edit::default() });
    repeats_it(&Edit {
        model: model(),
        pictures,
        fit: kao::dataset::Fit::Stretch,
        strength: Some(0.25),
        mask: Some("mask.png".into()),
        jumps: Some(10),
        jump_length: Some(3),
        sampling: sampling(),
        wishes: Wishes { columns_of: Some("smile,sad".into()), ..Wishes::default() },
        count: Some(2),
        first: 4,
        pick: vec![],
        seed: 5,
        batch_size: 3,
        out: Some("varied/".into()),
        columns: 4,
        scale: 2,
        labels: true,
        compute: compute(),
    });
    let pictures = vec!["a.png".into()];
    repeats_it(&Edit { pictures, pick: vec![1, 2], strength: Some(0.0), out, ..Edit::default() });
}

#[test]
fn so_do_those_of_interpolations() {
    let repeats_it = |request: &Interpolate| {
        repeats(request, |command| match command {
            Command::Interpolate(arguments) => Some(arguments.request().unwrap()),
            _ => None,
        });
    };
    let out = Some("interpolation.png".into());
    repeats_it(&Interpolate {
        between: vec![3, 17, 42],
        out: out.clone(),
        ..Interpolate::default()
    });
    repeats_it(&Interpolate {
        model: model(),
        sampling: sampling(),
        wishes: Wishes { tags: Some("smile".into()), guidance: Some(3.0), ..Wishes::default() },
        images: vec![3, 17],
        seed: 5,
        latents: Some("latents.safetensors".into()),
        frames: 9,
        plane: true,
        first: 2,
        pick: vec![],
        batch_size: 3,
        out: Some("ways.webp".into()),
        columns: Some(4),
        scale: 4,
        labels: true,
        fps: 20,
        compute: compute(),
        ..Interpolate::default()
    });
    repeats_it(&Interpolate {
        between: vec![3, 17],
        pick: vec![0, 5],
        out,
        ..Interpolate::default()
    });
}

#[test]
fn so_do_those_of_all_other_requests() {
    let sweep = Sweep {
        model: model(),
        out: "sweep".into(),
        count: 4,
        columns: 2,
        seed: 7,
        spacing: Spacing::Leading,
        max_steps: Some(100),
        batch_size: 3,
        compute: compute(),
    };
    repeats(&sweep, |command| match command {
        Command::Sweep(arguments) => Some(arguments.request()),
        _ => None,
    });
    let evaluate = Evaluate {
        model: model(),
        data: "faces".into(),
        count: Some(9),
        parts: Some("parts".into()),
        shard: Some(Shard::new(6, 7).unwrap()),
        sampling: sampling(),
        seed: 3,
        neighbours: Some("near.png".into()),
        rows: 4,
        batch_size: 2,
        compute: compute(),
        ..Evaluate::default()
    };
    let described = Evaluate {
        data: "faces".into(),
        guidance: Some(1.5),
        avoid: Some("hat".into()),
        descriptions: true,
        unseen: true,
        ..Evaluate::default()
    };
    let of_folder =
        Evaluate { data: "faces".into(), samples: Some("others".into()), ..Evaluate::default() };
    for request in [evaluate, described, of_folder] {
        repeats(&request, |command| match command {
            Command::Eval(arguments) => Some(arguments.request().unwrap()),
            _ => None,
        });
    }
    let compare = Compare {
        model: model(),
        out: "compared".into(),
        samplers: vec!["dpm++".into(), "heun".into()],
        steps: vec![5, 10],
        evaluations: vec![],
        etas: vec![0.0, 0.25],
        spacing: Spacing::Leading,
        data: Some("faces".into()),
        count: 4,
        columns: 2,
        shard: Some(Shard::new(0, 7).unwrap()),
        seed: 7,
        batch_size: 3,
        compute: compute(),
    };
    let by_cost =
        Compare { steps: vec![], evaluations: vec![8, 20], data: None, ..compare.clone() };
    for request in [compare, by_cost] {
        repeats(&request, |command| match command {
            Command::Compare(arguments) => Some(arguments.request().unwrap()),
            _ => None,
        });
    }
    let encode = Encode {
        model: model(),
        pictures: vec!["one.png".into(), "two pictures.jpg".into()],
        out: "latents.safetensors".into(),
        count: Some(2),
        steps: 7,
        spacing: Spacing::Karras,
        inversion: InversionConfig { order: 1, iterations: 3 },
        picture: Some("p.png".into()),
        batch_size: 3,
        compute: compute(),
    };
    repeats(&encode, |command| match command {
        Command::Encode(arguments) => Some(arguments.request()),
        _ => None,
    });
    let shard = Some(Shard::new(1, 3).unwrap());
    let draw = Draw { count: 5, out: "faces".into(), size: 32, seed: 0, shard, threads: Some(1) };
    repeats(&draw, |command| match command {
        Command::Draw(arguments) => Some(arguments.request().unwrap()),
        _ => None,
    });
    let prepare = Prepare {
        classes: Some(Classes::Folders),
        min_tag_count: 3,
        raw_dir: "raw pictures".into(),
        out_dir: "faces".into(),
        size: 32,
        fit: kao::dataset::Fit::Stretch,
        keep_duplicates: true,
        min_side: 8,
        shards: Some(100),
        shard: Some(Shard::new(0, 2).unwrap()),
        strict: true,
        threads: Some(2),
    };
    repeats(&prepare, |command| match command {
        Command::Prepare(arguments) => Some(arguments.request().unwrap()),
        _ => None,
    });
    let convert = Convert {
        input: "last.ckpt".into(),
        output: "faces".into(),
        to: Some(Target::Diffusers),
        half: true,
        config: Some("config.toml".into()),
        raw_weights: true,
    };
    repeats(&convert, |command| match command {
        Command::Convert(arguments) => Some(arguments.request()),
        _ => None,
    });
    repeats_train(&Train { data: Some("faces".into()), out: "run".into(), ..Train::default() });
    repeats_train(&Train {
        data: Some("my faces".into()),
        out: "run".into(),
        preset: Some("tiny".into()),
        resume: true,
        from: Some("weak.safetensors".into()),
        steps: Some(u64::MAX),
        batch_size: Some(8),
        micro_batch_size: Some(4),
        gradient_checkpointing: true,
        prediction: Some(Prediction::V),
        timestep_sampling: Some(TimestepSampling::Stratified),
        min_snr_gamma: Some(5.5),
        loss_focus: Some(2.5),
        dropout: Some(0.25),
        optimizer: Some(Optimizer::Adamw),
        weight_decay: Some(0.01),
        learning_rate: Some(1e-4),
        learning_rate_decay: Some(Decay::Linear),
        final_learning_rate: Some(1e-6),
        warmup_steps: Some(7),
        max_gradient_norm: Some(0.5),
        ema_halflife: Some(1e4),
        classes: Some(Classes::Folders),
        min_tag_count: Some(3),
        tag_dropout: Some(0.5),
        no_flip: true,
        seed: Some(0),
        save_every: Some(10),
        keep_checkpoints: Some(2),
        log_every: Some(5),
        validation_images: Some(0),
        sample_count: Some(0),
        sample_steps: Some(9),
        compute: compute(),
        ..Train::default()
    });
    repeats_train(&Train {
        out: "run".into(),
        config: Some("config.toml".into()),
        epochs: Some(3),
        memory: Some(4 << 30),
        no_tags: true,
        ..Train::default()
    });
    let bench = Benchmark {
        preset: Some("tiny".into()),
        batch_size: 1,
        rounds: 3,
        warmup: 0,
        forward_only: true,
        layers: true,
        compute: compute(),
        ..Benchmark::default()
    };
    repeats(&bench, |command| match command {
        Command::Bench(arguments) => Some(arguments.request()),
        _ => None,
    });
}

#[test]
fn a_command_without_flags_is_the_request_as_by_default() {
    let parsed = |line: &str| parsed(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let Command::Sample(sample) = parsed("sample") else { panic!() };
    let out = Some("grid.png".into());
    assert_eq!(sample.request().unwrap(), Sample { out, ..Sample::default() });
    let Command::Recover(recover) = parsed("recover --data x") else { panic!() };
    let (data, out) = (vec!["x".into()], Some("recover.png".into()));
    assert_eq!(recover.request().unwrap(), Recover { data, out, ..Recover::default() });
    let Command::Sweep(sweep) = parsed("sweep --out x") else { panic!() };
    assert_eq!(sweep.request(), Sweep { out: "x".into(), ..Sweep::default() });
    let Command::Eval(eval) = parsed("eval --data x") else { panic!() };
    let expected = Evaluate { data: "x".into(), ..Evaluate::default() };
    assert_eq!(eval.request().unwrap(), expected);
    let Command::Compare(compare) = parsed("compare --out x") else { panic!() };
    assert_eq!(compare.request().unwrap(), Compare { out: "x".into(), ..Compare::default() });
    let Command::Encode(encode) = parsed("encode x --out y") else { panic!() };
    let expected = Encode { pictures: vec!["x".into()], out: "y".into(), ..Encode::default() };
    assert_eq!(encode.request(), expected);
    let Command::Draw(draw) = parsed("draw --count 1 --out x") else { panic!() };
    assert_eq!(draw.request().unwrap(), Draw { count: 1, out: "x".into(), ..Draw::default() });
    let Command::Train(train) = parsed("train --out x") else { panic!() };
    assert_eq!(train.request(), Train { out: "x".into(), ..Train::default() });
    let Command::Bench(bench) = parsed("bench") else { panic!() };
    assert_eq!(bench.request(), Benchmark::default());
}
