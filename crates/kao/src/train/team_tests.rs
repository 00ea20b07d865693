//! Runs on several ranks: their bytes are those of one, whoever computes what.

use super::history::History;
use super::reports::TRAINING;
use super::tests::{assert_same_files, config, images, tagged_config, tagged_folder};
use super::{LOG_FILE, RunDir, TrainConfig, Trained, Training};
use crate::control::{Control, Report, Unattended};
use crate::dataset::Folder;
use crate::error::{ErrorKind, Result};
use crate::ranks::threads::together;
use crate::ranks::{Alone, Group};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One rank of a run in `run`, which is resumed where there is something to resume.
fn train_as(
    group: &dyn Group,
    config: &TrainConfig,
    folder: &Arc<Folder>,
    run: &Path,
    control: &dyn Control,
) -> Result<Trained> {
    let run_dir = group.is_first().then(|| RunDir::open(run).unwrap());
    let training = Training::new(config.clone()).folder(folder.clone()).group(group);
    let Some(run_dir) = &run_dir else { return training.run(control) };
    let training = training.run_dir(run_dir);
    match run_dir.checkpoints().read_dir().unwrap().next() {
        None => training.run(control),
        Some(_) => training.resume(run_dir.newest_checkpoint().unwrap().checkpoint).run(control),
    }
}

/// A run with dropout, tags, an average, and micro-batches of unequal sizes.
fn tagged() -> (Arc<Folder>, TrainConfig) {
    let folder = tagged_folder();
    let config = TrainConfig { batch_size: 15, micro_batch_size: 2, ..tagged_config(&folder) };
    assert!(config.model.dropout > 0.0 && config.n_micro_batches() == 8);
    (folder, config)
}

#[test]
fn any_number_of_ranks_gives_the_same_bytes() {
    let (folder, tagged) = tagged();
    let plain = Arc::new(Folder::from_images(&images()).unwrap());
    for (folder, config) in [(&folder, &tagged), (&plain, &config())] {
        let dir = tempfile::tempdir().unwrap();
        let whole = dir.path().join("1");
        train_as(&Alone, config, folder, &whole, &Unattended).unwrap();
        for size in [2, 3, 4, 8] {
            let run = dir.path().join(size.to_string());
            let trained =
                together(size, |group| train_as(group, config, folder, &run, &Unattended));
            assert_same_files(&whole, &run, &format!("1 and {size} ranks"));
            // Every rank has the model, not only the one that writes it.
            let trained: Vec<Trained> = trained.into_iter().map(Result::unwrap).collect();
            let values = |k: usize| trained[k].model.network.unet().values();
            assert!((1..size).all(|k| values(k) == values(0)));
        }
    }
}

#[test]
fn a_run_that_any_rank_stops_goes_on_with_any_number() {
    let (folder, config) = tagged();
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    train_as(&Alone, &config, &folder, &whole, &Unattended).unwrap();
    let n_reports = AtomicUsize::new(0);
    let run = dir.path().join("counted");
    let count = |_: &Report<'_>| {
        n_reports.fetch_add(1, Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    together(3, |group| match group.rank() {
        1 => train_as(group, &config, &folder, &run, &count).map(|_| ()),
        _ => train_as(group, &config, &folder, &run, &Unattended).map(|_| ()),
    });
    let n_reports = n_reports.into_inner();
    assert!(n_reports > 30, "{n_reports}");
    // Stopped by rank 1 of 3, gone on with by 2, and stopped again, and ended by one.
    for stop_at in (0..n_reports).step_by(5) {
        let run = dir.path().join(format!("at {stop_at}"));
        let stop_once = |rank: usize, report: usize| {
            let n = AtomicUsize::new(0);
            move |own: usize| {
                let is_due = own == rank && n.fetch_add(1, Ordering::Relaxed) == report;
                if is_due { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        };
        let first = stop_once(1, stop_at);
        let stopped = together(3, |group| {
            let control = |_: &Report<'_>| first(group.rank());
            let trained = train_as(group, &config, &folder, &run, &control).unwrap();
            (trained.n_steps, trained.stopped_early)
        });
        assert!(stopped.iter().all(|rank| *rank == stopped[0]), "{stop_at}: {stopped:?}");
        let second = stop_once(0, 9);
        together(2, |group| {
            let control = |_: &Report<'_>| second(group.rank());
            train_as(group, &config, &folder, &run, &control).unwrap();
        });
        train_as(&Alone, &config, &folder, &run, &Unattended).unwrap();
        let last = format!("checkpoints/step-{:08}.safetensors", config.steps);
        for file in ["model.safetensors", &last] {
            let of = |run: &Path| std::fs::read(run.join(file)).unwrap();
            assert!(of(&whole) == of(&run), "{file}, stopped at report {stop_at}: {stopped:?}");
        }
    }
}

#[test]
fn ranks_with_other_pictures_or_settings_are_refused() {
    let folder = Arc::new(Folder::from_images(&images()).unwrap());
    let fewer = Arc::new(Folder::from_images(&images().slice(0..110)).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let errors = together(3, |group| {
        let config = match group.rank() {
            2 => TrainConfig { seed: 5, steps: 8, ..config() },
            _ => config(),
        };
        let folder = if group.rank() == 1 { &fewer } else { &folder };
        let run = dir.path().join("run");
        train_as(group, &config, folder, &run, &Unattended).unwrap_err().to_string()
    });
    let message = &errors[0];
    assert!(message.starts_with("ranks: they do not agree: checksum of the pictures is "));
    assert!(message.contains(" at rank 1 on ") && message.contains("2 more differences"));
    assert!(errors.iter().all(|error| error == message), "{errors:?}");
    assert!(!dir.path().join("run/model.safetensors").exists());
}

#[test]
fn a_rank_that_is_gone_ends_the_others_and_leaves_a_good_checkpoint() {
    let (folder, config) = tagged();
    let dir = tempfile::tempdir().unwrap();
    let (whole, run) = (dir.path().join("whole"), dir.path().join("run"));
    train_as(&Alone, &config, &folder, &whole, &Unattended).unwrap();
    let errors = together(3, |group| {
        // Rank 2 leaves in the middle of its fifth step.
        let leaves = |report: &Report<'_>| {
            assert!(report.stage != TRAINING || report.done < 5, "the end of rank 2");
            ControlFlow::Continue(())
        };
        let hook = std::panic::AssertUnwindSafe(|| match group.rank() {
            2 => train_as(group, &config, &folder, &run, &leaves),
            _ => train_as(group, &config, &folder, &run, &Unattended),
        });
        match std::panic::catch_unwind(hook) {
            Ok(trained) => Some(trained.unwrap_err()),
            Err(_) => None,
        }
    });
    for error in errors.into_iter().flatten() {
        assert!(matches!(error.kind(), ErrorKind::Rank { .. }), "{error}");
    }
    assert_eq!(
        RunDir::open(&run).unwrap().newest_checkpoint().unwrap().checkpoint.position.n_steps,
        3
    );
    train_as(&Alone, &config, &folder, &run, &Unattended).unwrap();
    assert_same_files(&whole, &run, "after the end of a rank");
}

#[test]
fn the_log_tells_how_the_ranks_fare() {
    let (folder, config) = tagged();
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    together(2, |group| train_as(group, &config, &folder, &run, &Unattended).map(|_| ()));
    let ranks = History::read(run.join(LOG_FILE)).unwrap().ranks.unwrap();
    assert_eq!(ranks.images_per_second.len(), 2);
    assert!(ranks.images_per_second.iter().all(|speed| *speed > 0.0), "{ranks:?}");
    assert!((0.0..=1.0).contains(&ranks.communication) && ranks.waiting >= 0.0, "{ranks:?}");
    assert!(ranks.slowest < 2 && !ranks.slowest_host.is_empty(), "{ranks:?}");
    // A run on one rank has nothing to tell of ranks.
    let alone = dir.path().join("alone");
    train_as(&Alone, &config, &folder, &alone, &Unattended).unwrap();
    assert_eq!(History::read(alone.join(LOG_FILE)).unwrap().ranks, None);
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_all_ranks() {
    let (folder, config) = tagged();
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let errors = together(3, |group| {
        let control = |report: &Report<'_>| {
            if group.is_first() && report.stage == TRAINING && report.done == 2 {
                // A file where the folder was.
                std::fs::remove_dir_all(run.join("checkpoints")).unwrap_or_default();
                std::fs::write(run.join("checkpoints"), []).unwrap_or_default();
            }
            ControlFlow::Continue(())
        };
        train_as(group, &config, &folder, &run, &control).unwrap_err().to_string()
    });
    assert!(errors[0].starts_with("cannot "), "{errors:?}");
    for error in &errors[1..] {
        assert_eq!(*error, format!("rank 0 failed: {}", errors[0]));
    }
}
