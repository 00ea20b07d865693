//! Run directories: the log of a run, and what is told and drawn from it.

use crate::fuzz::{Kind, run};
use crate::support::mutate;
use kao::train::history::History;
use kao::train::summary::Summary;
use kao::train::{CONFIG_FILE, LOG_FILE, Preset, curves};
use std::fs;

/// The log of a run of so many steps, validated every ten.
fn log(n_steps: usize) -> Vec<u8> {
    let mut lines = String::new();
    for step in 1..=n_steps {
        let loss = 1.0 / step as f64;
        lines += &format!(
            "{{\"gradient_norm\":{loss},\"images\":{},\"images_per_second\":60.5,\
             \"learning_rate\":1e-4,\"loss\":{loss},\"step\":{step}}}\n",
            32 * step
        );
        if step % 10 == 0 {
            lines += &format!(
                "{{\"raw_validation_loss\":{loss},\"step\":{step},\"validation_by_t\":\
                 [{{\"from\":0,\"loss\":0.25,\"to\":500}},{{\"from\":500,\"loss\":0.5,\
                 \"to\":1000}}],\"validation_loss\":{loss}}}\n"
            );
        }
    }
    lines.into_bytes()
}

#[test]
fn damaged_logs_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let run_folder = folder.path().join("run");
    let log_path = run_folder.join(LOG_FILE);
    fs::create_dir_all(log_path.parent().unwrap()).unwrap();
    fs::write(run_folder.join(CONFIG_FILE), Preset::Tiny.config().to_toml()).unwrap();
    run(&mut Kind {
        name: "log.jsonl",
        corpus: vec![log(12), log(43), [log(30), log(25)].concat()],
        default_mutations: 2000,
        mutate: &mutate::text,
        read: &mut |_, content| {
            fs::write(&log_path, content).unwrap();
            let told = || {
                let summary = Summary::of(&run_folder)?;
                serde_json::to_string(&summary).expect("plain data");
                let history = History::read(&log_path)?;
                let _ = (history.trend(), history.last_step());
                let has_problem = summary.problems.first().cloned();
                // Drawing is slower than all else.
                if content.len().is_multiple_of(16) {
                    curves::draw(&history, "run")?;
                }
                match has_problem {
                    Some(problem) => Err(kao::Error::malformed(&log_path, problem)),
                    None => Ok(()),
                }
            };
            told().into()
        },
    });
}
