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
                    let load = || load(&config, wants_tags, control);
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
