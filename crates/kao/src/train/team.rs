//! The ranks of a run: who computes which micro-batches, validation pictures and samples, and when
//! all of them stop.
//!
//! A run on one rank goes through here too, and then nothing is exchanged. All ranks hold the same
//! state at every step, since all make the same update by the same gradients; only rank 0 has a run
//! directory.

use super::adam::OptimizerState;
use super::checkpoint::Position;
use super::config::TrainConfig;
use super::exchange::summed;
use super::objective::{LossGradients, StepPart};
use super::rank_times::{RankSums, RankTimes, RanksReport};
use super::reduction::{TreeSum, shares};
use super::start::Start;
use super::step::{TrainState, TrainStep};
use crate::dataset::Loader;
use crate::error::{Error, ErrorKind, Result};
use crate::ranks::collectives::{broadcast, broadcast_into, gather_results};
use crate::ranks::{Group, agreement, part};
use crate::unet::UNet;
use bytemuck::cast_slice_mut;
use std::ops::Range;
use std::time::Instant;

/// The ranks of a run, as one of them sees them.
#[derive(Debug)]
pub(super) struct Team<'a> {
    group: &'a dyn Group,
    /// The machine of each rank.
    hosts: Vec<String>,
    /// The micro-batches of a step that each rank computes.
    shares: Vec<Range<usize>>,
    /// What this rank did in the step before.
    times: RankTimes,
    sums: RankSums,
    /// Whether the ranks have agreed to stop.
    is_stopped: bool,
}

/// The pictures of a step: where they come from, and which they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepPictures<'a> {
    pub(super) loader: &'a Loader,
    /// The number of the first, counted from the beginning of the run.
    pub(super) first_image: u64,
    pub(super) batch_size: usize,
}

impl<'a> Team<'a> {
    /// The ranks of `group`, for a run of `config`.
    ///
    /// # Errors
    /// When a rank is gone.
    pub(super) fn new(group: &'a dyn Group, config: &TrainConfig) -> Result<Self> {
        Ok(Team {
            group,
            hosts: agreement::hosts(group)?,
            shares: shares(config.n_micro_batches(), group.size()),
            times: RankTimes::default(),
            sums: RankSums::default(),
            is_stopped: false,
        })
    }

    /// Whether there is one rank alone.
    pub(super) fn is_one(&self) -> bool {
        self.group.size() == 1
    }

    /// The machine of each rank.
    pub(super) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// How many ranks have no micro-batch to compute.
    pub(super) fn n_idle(&self) -> usize {
        self.shares.iter().filter(|share| share.is_empty()).count()
    }

    /// Whether the ranks have agreed to stop, all at the same step.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// What every rank begins with: `own` of rank 0, which the others need not have.
    ///
    /// # Errors
    /// When rank 0 has an error, or is gone.
    pub(super) fn start(
        &self,
        config: &TrainConfig,
        own: impl FnOnce() -> Result<Start>,
    ) -> Result<Start> {
        if self.is_one() {
            return own();
        }
        let mut start = None;
        let told = match self.group.is_first() {
            true => own().map(|own| {
                let told = serde_json::to_vec(&own.position).expect("a position can be written");
                start = Some(own);
                told
            }),
            false => Ok(Vec::new()),
        };
        let told = broadcast(self.group, told)?;
        let mut start = match start {
            Some(own) => own,
            None => {
                let position: Option<Position> = serde_json::from_slice(&told)
                    .map_err(|error| Error::invalid("start", format!("of rank 0: {error}")))?;
                let state = TrainState::new(UNet::init(&config.model, config.seed)?);
                Start { state, position, other_schedule: None }
            }
        };
        let TrainState { unet, optimizer } = &mut start.state;
        let fill = |values: &mut [Vec<f32>]| -> Result<()> {
            values.iter_mut().try_for_each(|v| broadcast_into(self.group, cast_slice_mut(v)))
        };
        fill(unet.values_mut())?;
        match &start.position {
            None => *optimizer = OptimizerState::new(unet),
            Some(position) => {
                optimizer.n_steps = position.n_steps;
                fill(&mut optimizer.first)?;
                fill(&mut optimizer.second)?;
                fill(&mut optimizer.ema)?;
            }
        }
        Ok(start)
    }

    /// The loss and the gradients of a step, the same at every rank. `wants_stop` is asked once the
    /// own share is computed; when one rank wants to stop, all do after this step.
    ///
    /// # Errors
    /// When the pictures cannot be read, the device fails, or a rank is gone.
    pub(super) fn gradients(
        &mut self,
        step: &TrainStep<'_>,
        unet: &UNet,
        pictures: StepPictures<'_>,
        wants_stop: impl FnOnce() -> bool,
    ) -> Result<LossGradients> {
        let StepPictures { loader, first_image, batch_size } = pictures;
        if self.is_one() {
            return step.gradients(unet, &loader.batch(first_image, batch_size)?, first_image);
        }
        let started = Instant::now();
        let share = self.shares[self.group.rank()].clone();
        let own = step.pictures_of(share.clone(), batch_size);
        let n_micro_batches = self.shares.last().map_or(0, |share| share.end);
        let mut sum = TreeSum::new(n_micro_batches);
        if !own.is_empty() {
            let first = first_image + own.start as u64;
            let batch = loader.part_of_batch(first, own.len(), batch_size)?;
            for k in share {
                let part = step.pictures_of(k..k + 1, batch_size);
                let micro_batch = batch.slice(part.start - own.start..part.end - own.start);
                let part = StepPart {
                    first_image: first_image + part.start as u64,
                    offset: part.start,
                    batch_size,
                };
                sum.add(k..k + 1, step.gradients_of_part(unet, &micro_batch, part)?);
            }
        }
        let computing = started.elapsed().as_secs_f64();
        let [a, b, c] = self.times.to_words();
        let words = [u32::from(wants_stop()), a, b, c];
        let lens: Vec<usize> = unet.values().iter().map(Vec::len).collect();
        let (found, said) = summed(self.group, &self.shares, &lens, sum, &words)?;
        let exchanging = started.elapsed().as_secs_f64() - computing;
        self.times = RankTimes { n_images: own.len() as u32, computing, exchanging };
        let times: Vec<RankTimes> =
            said.iter().map(|said| RankTimes::of_words([said[1], said[2], said[3]])).collect();
        self.sums.add(&times);
        self.is_stopped |= said.iter().any(|said| said[0] != 0);
        Ok(found)
    }

    /// How the ranks fared since the last time that this was asked.
    pub(super) fn take_report(&mut self) -> Option<RanksReport> {
        self.sums.take_report(&self.hosts)
    }

    /// What all of `n` things come to, of which every rank does some, in their order: `work` gets
    /// those of this rank.
    ///
    /// # Errors
    /// Those of `work`, of whichever rank, at every rank; when a rank is gone.
    pub(super) fn shared(
        &mut self,
        n: usize,
        work: impl FnOnce(Range<usize>) -> Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let own = work(part(n, self.group.rank(), self.group.size()));
        let all = gather_results(self.group, own);
        if let Err(error) = &all
            && matches!(error.kind(), ErrorKind::Interrupted)
        {
            self.is_stopped = true;
        }
        Ok(all?.concat())
    }

    /// What rank 0 came to in what it alone does is what all come to.
    ///
    /// # Errors
    /// When it has an error, or is gone.
    pub(super) fn follow(&self, of_first: Result<()>) -> Result<()> {
        broadcast(self.group, of_first.map(|()| Vec::new())).map(|_| ())
    }

    /// Waits until every rank is here.
    ///
    /// # Errors
    /// When a rank is gone.
    pub(super) fn wait_for_all(&self) -> Result<()> {
        gather_results(self.group, Ok(Vec::new())).map(|_| ())
    }
}
