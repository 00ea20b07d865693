//! What a job does.

use super::{Models, Output, Set};
use kao::Result;
use kao::control::Control;
use kao::requests::Estimate;
use serde_json::Value;

/// The work of a job: a request of the library with everything that it depends on.
pub trait Work: Send + Sync {
    /// The name of the kind of work: `sample`, `train`.
    fn kind(&self) -> &'static str;

    /// The request, as the library writes it.
    fn request(&self) -> Value;

    /// The command line of the program `kao` that does the same; empty where there is none.
    fn command(&self) -> String;

    /// What it takes. Reads the configuration of the model.
    ///
    /// # Errors
    /// As the request's own.
    fn estimate(&self) -> Result<Estimate>;

    /// Images at a time. With [`n_images`](Self::n_images) it tells which images a preview shows.
    fn batch_size(&self) -> usize {
        usize::MAX
    }

    /// How many images are made together, where it is known.
    fn n_images(&self) -> Option<usize> {
        None
    }

    /// How many images there will be in all.
    fn n_made(&self) -> usize {
        self.n_images().unwrap_or(0)
    }

    /// Whether it may take hours, and lets others go first between its steps.
    fn is_long(&self) -> bool {
        false
    }

    /// What no other job may work on at the same time, such as a run.
    fn exclusive(&self) -> Option<&str> {
        None
    }

    /// Does it, and reports to `control`.
    ///
    /// # Errors
    /// As the request's own.
    fn run(&self, worker: &Worker<'_>, control: &dyn Control) -> Result<Output>;
}

/// What work may use.
pub struct Worker<'a> {
    /// The models that are loaded.
    pub models: &'a Models,
    /// Does what short jobs wait for; to be called between the steps of long work.
    pub let_others_go: &'a (dyn Fn() + Sync),
    /// Takes what is there before all is done: the next set, and all facts so far.
    pub hand_over: &'a (dyn Fn(Option<Set>, Value) + Sync),
}
