//! All requests: JSON, what is refused before the work, and that the work is the same however it is
//! asked for.

use super::*;
use crate::control::{Report, Unattended};
use crate::device::{Device, DeviceKind};
use crate::error::ErrorKind;
use crate::model::Model;
use crate::render::read_png_text;
use crate::sampler::{Ddim, Ddpm, Euler, SnapshotsConfig};
use crate::timesteps::Spacing;
use serde_json::json;
use std::ops::ControlFlow;

/// Whatever request it is, unknown fields are refused and JSON gives back the same.
fn survives_json<R: Request + PartialEq + std::fmt::Debug>(request: R) {
    let json = request.to_json().unwrap();
    assert_eq!(R::from_json(&json).unwrap(), request, "{json}");
    assert_eq!(R::from_json("{}").unwrap(), R::default());
    let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
    value["nonsense"] = json!(1);
    let error = R::from_json(&value.to_string()).unwrap_err().to_string();
    assert!(error.contains("unknown field `nonsense`"), "{error}");
}

#[test]
fn every_request_survives_json_and_refuses_unknown_fields() {
    survives_json(Sample::default());
    let sampling = crate::sampler::SamplingConfig {
        sampler: Some(Ddpm::default().into()),
        steps: Some(3),
        spacing: Some(Spacing::Linear),
        end: Some(crate::timesteps::End::Clean),
        clip: true,
        ..Default::default()
    };
    let compute = Compute { device: DeviceKind::Cpu, threads: Some(2) };
    survives_json(Sample {
        model: ModelSource { path: Some("run".into()), raw_weights: true },
        sampling,
        count: Some(3),
        noise: Some("n.safetensors".into()),
        out: Some("a.png".into()),
        compute: compute.clone(),
        ..Sample::default()
    });
    survives_json(Recover {
        data: vec!["a.png".into(), "b.png".into()],
        t: Some(40),
        sampler: Euler {}.into(),
        ..Recover::default()
    });
    survives_json(Edit {
        pictures: vec!["a.png".into()],
        mask: Some("m.png".into()),
        strength: Some(0.25),
        sampling,
        pick: vec![3, 1],
        ..Edit::default()
    });
    survives_json(Interpolate { between: vec![3, u64::MAX], sampling, ..Interpolate::default() });
    survives_json(Sweep { out: "sweep".into(), max_steps: Some(10), ..Sweep::default() });
    survives_json(Encode {
        pictures: vec!["a.png".into(), "b.png".into()],
        inversion: crate::sampler::InversionConfig { order: 1, iterations: 3 },
        ..Encode::default()
    });
    survives_json(Compare {
        samplers: vec!["heun".into()],
        evaluations: vec![5, 8],
        etas: vec![0.5],
        data: Some("faces".into()),
        ..Compare::default()
    });
    survives_json(Evaluate { data: "faces".into(), sampling, compute, ..Evaluate::default() });
    survives_json(Draw { count: u64::MAX, out: "faces".into(), ..Draw::default() });
    survives_json(Train {
        data: Some("faces".into()),
        memory: Some((1 << 53) - 1),
        epochs: Some(2),
        no_tags: true,
        ..Train::default()
    });
    let train = Train::from_json(r#"{ "out": "run", "memory": "1.5GiB" }"#).unwrap();
    assert_eq!(train.memory, Some(3 << 29));
    assert!(Train::from_json(r#"{ "memory": "much" }"#).is_err());
    survives_json(Prepare { strict: true, ..Prepare::default() });
    survives_json(Convert { half: true, ..Convert::default() });
    survives_json(Benchmark { preset: Some("tiny".into()), layers: true, ..Benchmark::default() });
}

#[test]
fn fields_within_others_are_refused_too() {
    for json in [
        r#"{ "model": { "file": "x" } }"#,
        r#"{ "sampler": { "name": "ddim", "steps": 3 } }"#,
        r#"{ "sampler": "ddmi" }"#,
        r#"{ "spacing": "wide" }"#,
        r#"{ "device": "abacus" }"#,
        r#"{ "seed": -1 }"#,
        r#"{ "count": "many" }"#,
    ] {
        let error = Sample::from_json(json).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Invalid { .. }), "{json}: {error}");
    }
    let sample = Sample::from_json(r#"{ "sampler": "ddim", "steps": 50 }"#).unwrap();
    assert_eq!(sample.sampling.sampler, Some(Ddim::default().into()));
    assert_eq!((sample.sampling.steps, sample.seed, sample.batch_size), (Some(50), 999, 16));
}

/// The field that a request is refused for before anything is read.
fn refused_field(request: &impl Request) -> String {
    match request.validate().unwrap_err().kind() {
        ErrorKind::Invalid { field, .. } | ErrorKind::SameFile { field, .. } => field.clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_wrong_is_named_by_its_field_before_anything_is_read() {
    let sample = Sample::default;
    let eta = |eta| Some(Ddim { eta }.into());
    let sampling = crate::sampler::SamplingConfig { sampler: eta(2.0), ..Default::default() };
    let compute = Compute { threads: Some(0), ..Compute::default() };
    let same = Some("a.png".into());
    for (request, field) in [
        (Sample { count: Some(0), ..sample() }, "count"),
        (Sample { columns: 0, ..sample() }, "columns"),
        (Sample { batch_size: 0, ..sample() }, "batch_size"),
        (Sample { strip_images: 0, ..sample() }, "strip_images"),
        (Sample { strip_snapshots: 0, ..sample() }, "strip_snapshots"),
        (Sample { sampling, ..sample() }, "sampler.eta"),
        (Sample { compute, ..sample() }, "threads"),
        (Sample { out: same.clone(), strip: same, ..sample() }, "strip"),
    ] {
        assert_eq!(refused_field(&request), field);
    }
    for (request, field) in [
        (Sample { scale: 0, ..sample() }, "scale"),
        (Sample { pick: vec![1], first: 2, ..sample() }, "first"),
        (Sample { frames: 0, ..sample() }, "frames"),
    ] {
        assert_eq!(refused_field(&request), field);
    }
    let edit = || Edit { pictures: vec!["a.png".into()], ..Edit::default() };
    for (request, field) in [
        (Edit::default(), "pictures"),
        (Edit { strength: Some(-0.1), ..edit() }, "strength"),
        (Edit { jumps: Some(2), ..edit() }, "jumps"),
        (Edit { columns: 0, ..edit() }, "columns"),
        (Edit { pick: vec![1, 1], ..edit() }, "pick"),
    ] {
        assert_eq!(refused_field(&request), field);
    }
    let ways = || Interpolate { between: vec![3, 4], ..Interpolate::default() };
    let wishes = || Wishes { rows: Some("hat".into()), ..Wishes::default() };
    for (request, field) in [
        (Interpolate::default(), "between"),
        (Interpolate { images: vec![1, 2], ..ways() }, "images"),
        (Interpolate { latents: Some("x".into()), ..ways() }, "latents"),
        (Interpolate { frames: 1, ..ways() }, "frames"),
        (Interpolate { wishes: wishes(), ..ways() }, "rows"),
    ] {
        assert_eq!(refused_field(&request), field);
    }
    assert_eq!(refused_field(&Recover::default()), "data");
    assert_eq!(refused_field(&Evaluate::default()), "data");
    assert_eq!(refused_field(&Sweep::default()), "out");
    let sweep = Sweep { out: "sweep".into(), max_steps: Some(3), ..Sweep::default() };
    assert_eq!(refused_field(&sweep), "max_steps");
    let encode =
        Encode { pictures: vec!["a.png".into()], out: "x.safetensors".into(), ..Encode::default() };
    let inversion = crate::sampler::InversionConfig { order: 3, iterations: 1 };
    for (request, field) in [
        (Encode::default(), "pictures"),
        (Encode { out: "".into(), ..encode.clone() }, "out"),
        (Encode { out: "a.png".into(), ..encode.clone() }, "out"),
        (Encode { picture: Some("a.png".into()), ..encode.clone() }, "picture"),
        (Encode { steps: 0, ..encode.clone() }, "steps"),
        (Encode { inversion, ..encode.clone() }, "order"),
    ] {
        assert_eq!(refused_field(&request), field);
    }
    let compare = Compare { out: "compared".into(), ..Compare::default() };
    for (request, field) in [
        (Compare::default(), "out"),
        (Compare { samplers: vec!["dpm".into()], ..compare.clone() }, "samplers"),
        (Compare { evaluations: vec![5, 0], ..compare.clone() }, "evaluations"),
        (Compare { steps: vec![5], evaluations: vec![5], ..compare.clone() }, "evaluations"),
        (Compare { etas: vec![f64::NAN], ..compare.clone() }, "etas"),
        (Compare { data: Some("faces".into()), count: 1, ..compare }, "count"),
    ] {
        assert_eq!(refused_field(&request), field);
    }
    assert_eq!(refused_field(&Draw { out: "faces".into(), ..Draw::default() }), "count");
    let train = Train { out: "run".into(), ..Train::default() };
    assert_eq!(refused_field(&Train::default()), "out");
    for (request, field) in [
        (
            Train { preset: Some("tiny".into()), config: Some("x".into()), ..train.clone() },
            "preset",
        ),
        (Train { steps: Some(1), epochs: Some(1), ..train.clone() }, "steps"),
        (Train { epochs: Some(0), ..train.clone() }, "epochs"),
        (Train { dropout: Some(f64::NAN), ..train.clone() }, "dropout"),
        (Train { no_tags: true, tag_dropout: Some(0.5), ..train }, "no_tags"),
    ] {
        assert_eq!(refused_field(&request), field);
    }
    assert_eq!(refused_field(&Prepare::default()), "raw_dir");
    assert_eq!(refused_field(&Convert::default()), "input");
    let bench = Benchmark { preset: Some("huge".into()), ..Benchmark::default() };
    assert_eq!(refused_field(&bench), "preset");
}

#[test]
fn the_same_images_however_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::built_in(&Device::Cpu).unwrap();
    let fluent = Sample::from(&model).seed(3).count(3).steps(2).batch_size(2);
    let fluent = fluent.sampler(Ddim { eta: 1.0 }).snapshots(SnapshotsConfig::default());
    let fluent = fluent.run().unwrap();
    assert_eq!((fluent.images.len(), fluent.snapshots.len()), (3, 3));
    assert_eq!((fluent.n_evaluations, fluent.files.len()), (2, 0));

    let out = folder.path().join("grid.png");
    let json = json!({
        "sampler": { "name": "ddim", "eta": 1 }, "steps": 2, "seed": 3, "count": 3,
        "threads": 1, "out": out.to_str().unwrap(), "strip": folder.path().join("strip.png"),
        "save_tensors": folder.path().join("x.safetensors"),
    });
    let request = Sample::from_json(&json.to_string()).unwrap();
    let sampled = request.run(&Unattended).unwrap();
    assert_eq!(sampled.images, fluent.images);
    assert_eq!(sampled.snapshots, fluent.snapshots);
    assert_eq!(sampled.files.len(), 3);
    assert!(sampled.files.iter().all(|file| file.is_file()));
    assert!(sampled.summary().starts_with("3 faces · built-in · guided by built-in-guide, "));
    // Pictures say what the result says.
    let texts = read_png_text(&out).unwrap();
    assert_eq!(texts, sampled.provenance.texts.iter().cloned().collect());
    let of = |key: &str| texts.get(key).map(String::as_str);
    assert_eq!([of("model"), of("seed"), of("eta")], [Some("built-in"), Some("3"), Some("1")]);
}

#[test]
fn work_is_stopped_on_request_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let stop = |report: &Report<'_>| match report.stage {
        "sampling" => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let out = Some(folder.path().join("grid.png"));
    let error = Sample { out, ..Sample::default() }.run(&stop).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Interrupted), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn estimates_grow_with_the_work() {
    let estimate =
        |json: serde_json::Value| Sample::from_json(&json.to_string()).unwrap().estimate().unwrap();
    let one = estimate(json!({ "count": 1 }));
    let (n_steps, default) = (one.n_evaluations, json!({ "count": 1, "guidance": 1.0 }));
    assert_eq!(estimate(default).n_evaluations, n_steps);
    let alone = estimate(json!({ "count": 1, "guidance": 1.0, "steps": 20 }));
    // The guide acts in half of the steps; the estimate counts it in all of them.
    assert!(one.operations <= 1.2 * alone.operations, "twenty evaluations: {one:?} {alone:?}");
    let tags = estimate(json!({ "count": 1, "tags": "smile" }));
    assert_eq!(tags.n_evaluations, 2 * n_steps);
    assert!(one.memory_bytes > 20 << 20 && one.seconds() > 0.0, "{one:?}");
    let many = estimate(json!({ "count": 1000, "steps": 100 }));
    assert_eq!(many.n_evaluations, 100_000);
    assert!(many.memory_bytes > one.memory_bytes);
    let times = 100_000.0 / n_steps as f64;
    assert!((many.operations / one.operations - times).abs() < 1e-6);
    // A large batch passes through the network in parts, so it costs the memory of its images alone.
    let batch = |n: usize| estimate(json!({ "count": 1000, "batch_size": n })).memory_bytes;
    let image = 3 * 64 * 64 * 4;
    assert_eq!(batch(1000) - batch(64), 5 * (1000 - 64) * image);
    // Cost is counted in evaluations of the network.
    let heun = estimate(json!({ "count": 1, "sampler": "heun", "steps": 20 }));
    assert_eq!(heun.n_evaluations, 39);
    let compare = Compare::from_json(
        r#"{ "samplers": ["ddim", "heun"], "steps": [5, 10], "etas": [0, 1], "count": 2 }"#,
    );
    assert_eq!(compare.unwrap().estimate().unwrap().n_evaluations, 2 * (2 * 15 + 9 + 19));
    let encode = Encode::from_json(r#"{ "pictures": ["a.png", "b.png"], "steps": 10 }"#).unwrap();
    assert_eq!(encode.estimate().unwrap().n_evaluations, 2 * (11 + 10));
    let steps = json!({ "steps": 1_000_000 }).to_string();
    let error = Sample::from_json(&steps).unwrap().estimate().unwrap_err().to_string();
    assert!(error.starts_with("steps 1000000: must be between 1 and 1000"), "{error}");
}

#[test]
fn a_run_is_planned_made_and_resumed_by_requests() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("faces"), folder.path().join("run"));
    Draw { count: 12, out: data.clone(), size: 32, ..Draw::default() }.run(&Unattended).unwrap();
    let train = Train {
        data: Some(data),
        out: out.clone(),
        preset: Some("tiny".into()),
        steps: Some(2),
        batch_size: Some(2),
        sample_count: Some(0),
        validation_images: Some(1),
        ..Train::default()
    };
    let estimate = train.estimate().unwrap();
    assert_eq!(estimate.n_evaluations, 4);
    assert!(estimate.operations > 0.0 && estimate.memory_bytes > 0);

    let dry = train.dry_run(&Unattended).unwrap();
    assert_eq!(dry.estimate().unwrap().unwrap().steps_left, 2);
    assert!(dry.run(&Unattended).is_err() && !out.exists());

    let trained = train.run(&Unattended).unwrap();
    assert_eq!((trained.n_steps, trained.n_steps_before, trained.stopped_early), (2, 0, false));
    assert!(trained.model.is_file());
    let again = train.run(&Unattended).unwrap_err();
    assert_eq!(again.hint(), Some("resume it with `resume`, or give another `out`"));

    let resumed = Train { resume: true, ..train.clone() };
    assert!(resumed.plan(&Unattended).unwrap().is_done());
    let longer = Train { steps: Some(3), ..resumed.clone() }.run(&Unattended).unwrap();
    assert_eq!((longer.n_steps, longer.n_steps_before), (3, 2));
    let fields = [
        Train { preset: Some("small64".into()), ..resumed.clone() },
        Train { from: Some("other".into()), ..resumed.clone() },
        Train { steps: Some(1), ..resumed },
    ];
    let refused = fields.map(|request| match request.plan(&Unattended).unwrap_err().kind() {
        ErrorKind::Invalid { field, .. } => field.clone(),
        other => panic!("{other}"),
    });
    assert_eq!(refused, ["preset", "from", "steps"]);
}
