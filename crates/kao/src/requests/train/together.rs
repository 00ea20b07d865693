//! A training run that several ranks plan together.

use super::planned::{self, PlannedRun, load};
use super::{Request, Train};
use crate::control::{Control, Report};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ranks::agreement::{self, Facts};
use crate::ranks::collectives::{broadcast, gather_results};
use crate::ranks::{Group, host_name};
use crate::requests::compute::with_threads;
use crate::train::reports::TRAINING;
use crate::train::{TrainConfig, facts};
use serde::{Deserialize, Serialize};

/// What rank 0 tells the others of a run that it has planned.
#[derive(Serialize, Deserialize)]
struct Told {
    config: TrainConfig,
    n_steps_before: u64,
    is_done: bool,
}

/// See [`Train::plan_with`].
pub(super) fn plan(
    request: &Train,
    group: &dyn Group,
    control: &dyn Control,
) -> Result<PlannedRun> {
    // Before anything else is exchanged: another program might not understand it.
    let began = request.compute.device.open().and_then(|device| {
        let facts = facts_of(request, &device)?;
        Ok((device, facts))
    });
    let (own, outcome) = match began {
        Ok(began) => (Some(began), Ok(Vec::new())),
        Err(error) => (None, Err(error)),
    };
    gather_results(group, outcome)?;
    let (device, facts) = own.expect("no rank has failed");
    let hosts = agreement::hosts(group)?;
    let tell = |line: &str| {
        let _ = control.report(&Report::message(TRAINING, line));
    };
    agreement::check(group, &hosts, &facts, &tell)?;
    request.validate()?;
    match group.is_first() {
        true => first(request, group, control),
        false => other(request, device, group, control),
    }
}

/// Rank 0 plans as if it were alone.
fn first(request: &Train, group: &dyn Group, control: &dyn Control) -> Result<PlannedRun> {
    let mut planned = None;
    let told = planned::plan(request, true, control).map(|run| {
        let told = Told {
            config: run.config.clone(),
            n_steps_before: run.n_steps_before,
            is_done: run.is_done(),
        };
        let told = serde_json::to_vec(&told).expect("a configuration is plain data");
        planned = Some(run);
        told
    });
    broadcast(group, told)?;
    gather_results(group, Ok(Vec::new()))?;
    Ok(planned.expect("it was told"))
}

/// The others need the configuration and the pictures.
fn other(
    request: &Train,
    device: Device,
    group: &dyn Group,
    control: &dyn Control,
) -> Result<PlannedRun> {
    let told = broadcast(group, Ok(Vec::new()))?;
    let prepared = serde_json::from_slice(&told)
        .map_err(|error| Error::invalid("config", format!("of rank 0: {error}")))
        .and_then(|Told { config, n_steps_before, is_done }| {
            let folder = match is_done {
                true => None,
                false => {
                    let wants_tags = !config.tags.is_empty();
                    let load = || load(request, &config, wants_tags, control);
                    Some(with_threads(request.compute.threads, load)?)
                }
            };
            Ok(PlannedRun {
                config,
                out: request.out.clone(),
                device,
                threads: request.compute.threads,
                n_steps_before,
                folder,
                run_dir: None,
                checkpoint: None,
            })
        });
    let (prepared, outcome) = match prepared {
        Ok(prepared) => (Some(prepared), Ok(Vec::new())),
        Err(error) => {
            let hint = format!("this is rank {} on {}", group.rank(), host_name());
            (None, Err(error.with_hint(hint)))
        }
    };
    gather_results(group, outcome)?;
    Ok(prepared.expect("no rank has failed"))
}

/// What the ranks must have in common before they plan.
fn facts_of(request: &Train, device: &Device) -> Result<Facts> {
    let mut facts = facts::of_program(device)?;
    let request = serde_json::to_value(request).expect("a request is plain data");
    for (field, value) in request.as_object().into_iter().flatten() {
        // Machines may differ in their cores, and bytes do not depend on that.
        if field != "threads" {
            facts.insert(format!("`{field}`"), value.to_string());
        }
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Unattended;
    use crate::ranks::threads::together;
    use crate::requests::Draw;
    use kao_kernels::{SimdLevel, simd_level, with_simd_level};
    use std::path::Path;
    use std::sync::Mutex;

    /// A request whose run takes a moment, on the pictures `faces` in `folder`.
    fn request(folder: &Path, out: &str) -> Train {
        let config = folder.join("small.toml");
        let text = "steps = 2\nbatch_size = 4\nmicro_batch_size = 1\nsave_every = 2\n\
            sample_count = 2\nsample_steps = 2\n[model]\nimage_size = [3, 16, 16]\nch = 8\n\
            ch_mult = [1]\nattn = []\nnum_res_blocks = 1\ndropout = 0.0\nnorm_groups = 2\n";
        std::fs::write(&config, text).unwrap();
        Train {
            data: Some(folder.join("faces")),
            out: folder.join(out),
            config: Some(config),
            min_tag_count: Some(1),
            ..Train::default()
        }
    }

    fn workplace() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("faces");
        Draw { count: 20, out, size: 16, ..Draw::default() }.run(&Unattended).unwrap();
        folder
    }

    #[test]
    fn ranks_begin_and_resume_a_run_together() {
        let folder = workplace();
        let run = |out: &str, size: usize, resume: bool, steps: u64| {
            let request = Train { resume, steps: Some(steps), ..request(folder.path(), out) };
            let done = together(size, |group| {
                let planned = request.plan_with(group, &Unattended).unwrap();
                planned.run_with(group, &Unattended).unwrap().n_steps
            });
            assert_eq!(done, vec![steps; size]);
            std::fs::read(request.out.join("model.safetensors")).unwrap()
        };
        assert!(run("alone", 1, false, 2) == run("three", 3, false, 2));
        assert!(run("alone", 1, true, 4) == run("three", 2, true, 4));
        // All is done, and all ranks know it.
        assert!(run("three", 3, true, 4) == run("alone", 1, true, 4));
    }

    #[test]
    fn a_failure_to_plan_is_that_of_all_ranks() {
        let folder = workplace();
        let mut request = request(folder.path(), "run");
        let refused = |request: &Train| {
            together(2, |group| request.plan_with(group, &Unattended).unwrap_err().to_string())
        };
        request.data = Some(folder.path().join("missing"));
        let errors = refused(&request);
        assert!(errors[0].starts_with("cannot read `"), "{errors:?}");
        assert_eq!(errors[1], format!("rank 0 failed: {}", errors[0]));
        assert!(!request.out.exists());
    }

    #[test]
    fn other_instructions_and_other_arguments_are_named() {
        if simd_level() == SimdLevel::Portable {
            return;
        }
        let folder = workplace();
        let plain = request(folder.path(), "run");
        let other = Train { seed: Some(7), ..plain.clone() };
        let lines = Mutex::new(Vec::new());
        let control = |report: &Report<'_>| {
            lines.lock().unwrap().extend(report.message.map(str::to_owned));
            std::ops::ControlFlow::Continue(())
        };
        let errors = together(2, |group| match group.rank() {
            0 => plain.plan_with(group, &control).unwrap_err().to_string(),
            _ => with_simd_level(SimdLevel::Portable, || {
                other.plan_with(group, &Unattended).unwrap_err().to_string()
            }),
        });
        let lines = lines.into_inner().unwrap();
        assert!(
            lines.iter().any(|line| line.starts_with("`seed` is 7 at rank 1 on ")),
            "{lines:?}"
        );
        let named = lines.iter().any(|line| line.starts_with("instructions is portable at rank 1"));
        assert!(named, "{lines:?}");
        assert!(errors[0].starts_with("ranks: they do not agree: "), "{errors:?}");
        assert_eq!(errors[0], errors[1]);
    }
}
