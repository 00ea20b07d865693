//! One job: its state, and what becomes known of it while it runs.

use super::{Output, Preview, Set, Work};
use crate::http::problem::Problem;
use kao::control::{Control, Report};
use kao::error::shortened;
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Messages of a job that are kept.
const MAX_MESSAGES: usize = 50;
/// The longest of them, in characters.
const MAX_MESSAGE_CHARS: usize = 400;

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Waiting,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Running => "running",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    pub fn is_final(self) -> bool {
        !matches!(self, State::Waiting | State::Running)
    }
}

/// A job.
pub struct Job {
    pub id: u64,
    pub work: Box<dyn Work>,
    /// Seconds that it is estimated to take.
    pub estimated_seconds: f64,
    created: SystemTime,
    is_cancelled: AtomicBool,
    n_listeners: AtomicUsize,
    inner: Mutex<Inner>,
    /// Counts what changes.
    changes: watch::Sender<u64>,
}

struct Inner {
    state: State,
    /// How many jobs go before it.
    n_before: usize,
    started: Option<Instant>,
    seconds: f64,
    progress: Progress,
    messages: Vec<String>,
    n_messages: usize,
    preview: Option<Arc<Preview>>,
    n_previews: u64,
    problem: Option<Problem>,
    /// What there is so far, and how often it has grown.
    output: Option<Arc<Output>>,
    n_parts: u64,
}

/// How far a job is.
#[derive(Clone, Debug, Default)]
struct Progress {
    stage: &'static str,
    detail: String,
    done: u64,
    total: Option<u64>,
    unit: &'static str,
    values: Map<String, Value>,
    /// When the stage began, and how much was done then.
    began: Option<(Instant, u64)>,
}

/// What is known of a job at one moment.
#[derive(Clone)]
pub struct Snapshot {
    pub state: State,
    pub n_before: usize,
    pub progress: Value,
    /// All messages so far, of which `messages` are the last.
    pub n_messages: usize,
    pub messages: Vec<String>,
    pub n_previews: u64,
    pub preview: Option<Arc<Preview>>,
    pub problem: Option<Problem>,
    /// What there is: all of it when the job is done, before that what it has handed over.
    pub output: Option<Arc<Output>>,
    pub n_parts: u64,
    pub seconds: f64,
}

/// Somebody looks at the job as it goes on; previews are made for them.
pub struct Listening(Arc<Job>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.n_listeners.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Job {
    pub fn new(id: u64, work: Box<dyn Work>, estimated_seconds: f64) -> Self {
        let inner = Inner {
            state: State::Waiting,
            n_before: 0,
            started: None,
            seconds: 0.0,
            progress: Progress::default(),
            messages: Vec::new(),
            n_messages: 0,
            preview: None,
            n_previews: 0,
            problem: None,
            output: None,
            n_parts: 0,
        };
        Job {
            id,
            work,
            estimated_seconds,
            created: SystemTime::now(),
            is_cancelled: AtomicBool::new(false),
            n_listeners: AtomicUsize::new(0),
            inner: Mutex::new(inner),
            changes: watch::Sender::new(0),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let changed = change(&mut self.inner());
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
        changed
    }

    /// Changes from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub fn state(&self) -> State {
        self.inner().state
    }

    pub fn output(&self) -> Option<Arc<Output>> {
        self.inner().output.clone()
    }

    /// The work should end as soon as it can.
    pub fn ask_to_stop(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
    }

    pub fn is_asked_to_stop(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }

    pub fn listen(self: &Arc<Self>) -> Listening {
        self.n_listeners.fetch_add(1, Ordering::SeqCst);
        Listening(self.clone())
    }

    /// Nobody else looks.
    pub fn is_unwatched(&self) -> bool {
        self.n_listeners.load(Ordering::SeqCst) == 0
    }

    pub fn set_before(&self, n_before: usize) {
        if self.inner().n_before != n_before {
            self.change(|inner| inner.n_before = n_before);
        }
    }

    pub fn start(&self) {
        self.change(|inner| {
            inner.state = State::Running;
            inner.n_before = 0;
            inner.started = Some(Instant::now());
        });
    }

    /// More of what the job leaves is there, before its end: the next set, and all facts so far.
    pub fn add_part(&self, set: Option<Set>, facts: Value) {
        self.change(|inner| {
            let mut output = inner.output.as_deref().cloned().unwrap_or_default();
            output.sets.extend(set.map(Arc::new));
            output.facts = facts;
            inner.output = Some(Arc::new(output));
            inner.n_parts += 1;
            // It is of the set before.
            inner.preview = None;
        });
    }

    /// The end of it, whatever it is. Returns the seconds that it took.
    pub fn end(&self, result: Result<Output, Problem>) -> f64 {
        self.change(|inner| {
            inner.seconds = inner.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
            inner.preview = None;
            match result {
                Ok(mut output) => {
                    inner.state = State::Done;
                    let before = inner.output.iter().flat_map(|parts| parts.sets.iter().cloned());
                    output.sets = before.chain(output.sets).collect();
                    inner.output = Some(Arc::new(output));
                }
                Err(problem) if problem.code == "cancelled" => inner.state = State::Cancelled,
                Err(problem) => {
                    inner.state = State::Failed;
                    inner.problem = Some(problem);
                }
            }
            inner.seconds
        })
    }

    pub fn snapshot(&self) -> Snapshot {
        let inner = self.inner();
        let running = inner.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        Snapshot {
            state: inner.state,
            n_before: inner.n_before,
            progress: inner.progress.to_json(),
            n_messages: inner.n_messages,
            messages: inner.messages.clone(),
            n_previews: inner.n_previews,
            preview: inner.preview.clone(),
            problem: inner.problem.clone(),
            output: inner.output.clone(),
            n_parts: inner.n_parts,
            seconds: if inner.state.is_final() { inner.seconds } else { running },
        }
    }

    pub fn to_json(&self) -> Value {
        let snapshot = self.snapshot();
        let created = self.created.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        json!({
            "id": self.id.to_string(),
            "kind": self.work.kind(),
            "state": snapshot.state.name(),
            "position": snapshot.n_before,
            "created": created,
            "seconds": snapshot.seconds,
            "estimated_seconds": self.estimated_seconds,
            "request": self.work.request(),
            "command": self.work.command(),
            "progress": snapshot.progress,
            "messages": snapshot.messages,
            "error": snapshot.problem.map(|problem| problem.to_json()),
            "result": snapshot.output.map(|output| output.to_json()),
        })
    }

    /// Of the images of the job, the first one of the batch that a preview shows.
    fn first_of_batch(&self, report: &Report<'_>, n_in_batch: usize) -> usize {
        let batch_size = self.work.batch_size();
        let Some(total) = report.total.filter(|&total| total > 0) else { return 0 };
        // Evaluations of the network for each image times images is the total; those that are done
        // are of whole batches and of the one that is shown, which may be smaller than the others.
        let n_images = self.work.n_images().unwrap_or(n_in_batch) as u64;
        let for_each = (total / n_images.max(1)).max(1);
        let of_batch = for_each.saturating_mul(batch_size as u64).max(1);
        let batch = report.done.saturating_sub(1) / of_batch;
        usize::try_from(batch).unwrap_or(0).saturating_mul(batch_size).min(n_images as usize)
    }
}

impl Progress {
    fn to_json(&self) -> Value {
        let seconds_left = self.began.zip(self.total).and_then(|((began, before), total)| {
            let done = self.done.checked_sub(before).filter(|&done| done > 0)?;
            let seconds = began.elapsed().as_secs_f64();
            Some(seconds / done as f64 * total.saturating_sub(self.done) as f64)
        });
        json!({
            "stage": self.stage,
            "detail": self.detail,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "values": self.values,
            "seconds_left": seconds_left,
        })
    }
}

impl Control for Job {
    fn report(&self, report: &Report<'_>) -> ControlFlow<()> {
        let preview = report.preview.map(|images| {
            Arc::new(Preview::new(self.first_of_batch(report, images.len()), images))
        });
        self.change(|inner| {
            if let Some(message) = report.message {
                inner.n_messages += 1;
                inner.messages.push(shortened(message, MAX_MESSAGE_CHARS).into_owned());
                if inner.messages.len() > MAX_MESSAGES {
                    inner.messages.remove(0);
                }
            } else {
                let progress = &mut inner.progress;
                if progress.stage != report.stage || progress.detail != report.detail {
                    progress.began = Some((Instant::now(), report.done));
                    progress.done = 0;
                }
                progress.stage = report.stage;
                progress.detail = report.detail.to_owned();
                // Threads may report in another order than they count.
                progress.done = progress.done.max(report.done);
                progress.total = report.total;
                progress.unit = report.unit;
                let values =
                    report.values.iter().map(|&(name, value)| (name.to_owned(), value.into()));
                progress.values = values.collect();
            }
            if preview.is_some() {
                inner.preview = preview;
                inner.n_previews += 1;
            }
        });
        match self.is_asked_to_stop() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn wants_previews(&self) -> bool {
        !self.is_unwatched()
    }
}
