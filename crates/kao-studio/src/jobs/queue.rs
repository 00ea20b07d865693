//! The queue, and the thread that takes jobs out of it.

use super::{Job, Models, Output, State, Work, Worker};
use crate::http::problem::Problem;
use crate::limits;
use crate::metrics::Metrics;
use axum::http::StatusCode;
use kao::control::Unattended;
use kao::device::DeviceKind;
use kao::requests::{Estimate, ModelSource};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// All jobs.
pub struct Queue {
    inner: Mutex<Inner>,
    /// There is a job, or the end has come.
    wakes: Condvar,
    models: Models,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Inner {
    last_id: u64,
    jobs: BTreeMap<u64, Arc<Job>>,
    waiting: VecDeque<Arc<Job>>,
    /// Those that compute: a long one, and one that goes before it.
    running: Vec<Arc<Job>>,
    /// The jobs that are done, the oldest first.
    finished: VecDeque<u64>,
    is_closed: bool,
    is_idle_for_good: bool,
}

impl Queue {
    pub fn new(metrics: Arc<Metrics>, device: DeviceKind) -> Arc<Self> {
        Arc::new(Queue {
            inner: Mutex::default(),
            wakes: Condvar::new(),
            models: Models::on(device),
            metrics,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread that works, beginning with the model that is likely to be asked for.
    pub fn start(self: &Arc<Self>, first: ModelSource) -> std::io::Result<()> {
        let queue = self.clone();
        let work = move || {
            // How fast this machine is, which the first estimate would wait for.
            let _ = Estimate { operations: 1.0, ..Estimate::default() }.seconds();
            // Where it fails, the job that asks for it says why.
            let _ = queue.models.get(&first, &Unattended);
            while let Some(job) = queue.next(true) {
                queue.run(&job);
            }
            queue.inner().is_idle_for_good = true;
        };
        std::thread::Builder::new().name("jobs".to_owned()).spawn(work).map(|_| ())
    }

    /// Puts work at the end of the queue.
    ///
    /// # Errors
    /// When the queue is full, or the server is about to end.
    pub fn add(&self, work: Box<dyn Work>, estimated_seconds: f64) -> Result<Arc<Job>, Problem> {
        let mut inner = self.inner();
        if inner.is_closed {
            let message = "the server is about to end";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ending", message));
        }
        if inner.waiting.len() >= limits::MAX_WAITING {
            Metrics::add(&self.metrics.jobs_refused, 1);
            let message = format!("{} jobs are waiting, no more fit", inner.waiting.len());
            let seconds: f64 = inner.waiting.iter().map(|job| job.estimated_seconds).sum();
            // When the first of those that wait has had its turn, there is room again.
            let one = (seconds / inner.waiting.len().max(1) as f64).clamp(1.0, 60.0);
            let retry_after = Some(one.ceil() as u64);
            return Err(Problem {
                retry_after,
                ..Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", message)
            });
        }
        if let Some(name) = work.exclusive()
            && inner
                .waiting
                .iter()
                .chain(&inner.running)
                .any(|job| job.work.exclusive() == Some(name))
        {
            let problem = "a training of this run waits or runs already";
            return Err(Problem::invalid("name", problem));
        }
        inner.last_id += 1;
        let job = Arc::new(Job::new(inner.last_id, work, estimated_seconds));
        inner.jobs.insert(job.id, job.clone());
        inner.waiting.push_back(job.clone());
        inner.say_positions();
        drop(inner);
        self.wakes.notify_all();
        Ok(job)
    }

    pub fn job(&self, id: u64) -> Option<Arc<Job>> {
        self.inner().jobs.get(&id).cloned()
    }

    /// The newest first.
    pub fn jobs(&self) -> Vec<Arc<Job>> {
        self.inner().jobs.values().rev().cloned().collect()
    }

    /// Ends a job: one that waits is gone, one that runs ends with its next report.
    pub fn cancel(&self, job: &Arc<Job>) {
        job.ask_to_stop();
        let mut inner = self.inner();
        let Some(at) = inner.waiting.iter().position(|waiting| waiting.id == job.id) else {
            return;
        };
        inner.waiting.remove(at);
        inner.say_positions();
        drop(inner);
        self.end(job, Err(Problem::from(kao::Error::interrupted())));
    }

    /// How many wait, compute, are kept; and the bytes of the results.
    pub fn counts(&self) -> (usize, usize, usize, usize) {
        let inner = self.inner();
        (inner.waiting.len(), inner.running.len(), inner.jobs.len(), inner.result_bytes())
    }

    /// Takes no more jobs. What waits is cancelled; what runs may come to its end, and training
    /// saves.
    pub fn close(&self) {
        let (waiting, running) = {
            let mut inner = self.inner();
            inner.is_closed = true;
            (inner.waiting.iter().cloned().collect::<Vec<_>>(), inner.running.clone())
        };
        waiting.iter().for_each(|job| self.cancel(job));
        running.iter().filter(|job| job.work.is_long()).for_each(|job| job.ask_to_stop());
        self.wakes.notify_all();
    }

    /// Whether the last job has come to its end after [`close`](Self::close).
    pub fn is_at_its_end(&self) -> bool {
        self.inner().is_idle_for_good
    }

    /// Runs the jobs that wait and are not long, for one that lets them go first. On the thread that
    /// works, or two would compute at once.
    fn run_others(&self) {
        while let Some(job) = self.next(false) {
            self.run(&job);
        }
    }

    /// The next job. Of those that take long there is one at a time, so `any` is false where one
    /// runs already; then nobody waits here.
    fn next(&self, any: bool) -> Option<Arc<Job>> {
        let mut inner = self.inner();
        loop {
            let may_run = |job: &&Arc<Job>| any || !job.work.is_long();
            if let Some(at) = inner.waiting.iter().position(|job| may_run(&job)) {
                let job = inner.waiting.remove(at)?;
                inner.running.push(job.clone());
                inner.say_positions();
                return Some(job);
            }
            if !any || inner.is_closed {
                return None;
            }
            inner = self.wakes.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, job: &Arc<Job>) {
        job.start();
        let worker = Worker {
            models: &self.models,
            let_others_go: &|| self.run_others(),
            hand_over: &|set, facts| job.add_part(set, facts),
        };
        let ran = catch_unwind(AssertUnwindSafe(|| match job.is_asked_to_stop() {
            true => Err(kao::Error::interrupted()),
            false => job.work.run(&worker, &**job),
        }));
        let result = match ran {
            Ok(result) => result.map_err(Problem::from),
            Err(_) => {
                let message = "the work ended in a panic, which is a fault of the program";
                Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "panic", message))
            }
        };
        let mut inner = self.inner();
        inner.running.retain(|running| running.id != job.id);
        inner.say_positions();
        drop(inner);
        self.end(job, result);
    }

    fn end(&self, job: &Arc<Job>, result: Result<Output, Problem>) {
        if result.is_ok() {
            Metrics::add(&self.metrics.images, job.work.n_made() as u64);
        }
        let seconds = job.end(result);
        let counter = match job.state() {
            State::Done => &self.metrics.jobs_done,
            State::Cancelled => &self.metrics.jobs_cancelled,
            _ => &self.metrics.jobs_failed,
        };
        Metrics::add(counter, 1);
        Metrics::add(&self.metrics.busy_milliseconds, (seconds * 1000.0) as u64);
        let mut inner = self.inner();
        inner.finished.push_back(job.id);
        inner.forget_the_oldest();
    }
}

impl Inner {
    fn say_positions(&self) {
        for (at, job) in self.waiting.iter().enumerate() {
            job.set_before(at + self.running.len());
        }
    }

    fn bytes_of(&self, id: u64) -> usize {
        let job = self.jobs.get(&id);
        job.and_then(|job| job.output()).map_or(0, |output| output.n_bytes())
    }

    fn result_bytes(&self) -> usize {
        self.finished.iter().map(|&id| self.bytes_of(id)).sum()
    }

    fn forget_the_oldest(&mut self) {
        let mut n_bytes = self.result_bytes();
        while self.finished.len() > 1
            && (self.finished.len() > limits::MAX_FINISHED || n_bytes > limits::MAX_RESULT_BYTES)
        {
            let Some(id) = self.finished.pop_front() else { return };
            n_bytes -= self.bytes_of(id);
            self.jobs.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kao::control::{Control, Report};
    use serde_json::{Value, json};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::{Duration, Instant};

    /// Work that waits for a word at every step.
    struct Steps {
        words: Mutex<Receiver<&'static str>>,
        is_long: bool,
    }

    impl Work for Steps {
        fn kind(&self) -> &'static str {
            "steps"
        }

        fn request(&self) -> Value {
            json!({})
        }

        fn command(&self) -> String {
            String::new()
        }

        fn estimate(&self) -> kao::Result<Estimate> {
            Ok(Estimate::default())
        }

        fn is_long(&self) -> bool {
            self.is_long
        }

        fn run(&self, worker: &Worker<'_>, control: &dyn Control) -> kao::Result<Output> {
            let words = self.words.lock().unwrap();
            for done in 0.. {
                match words.recv().unwrap_or("end") {
                    "panic" => panic!("as told"),
                    "end" => break,
                    _ => control.check(&Report::progress("stepping", done, None, "steps"))?,
                }
                if self.is_long {
                    (worker.let_others_go)();
                }
            }
            Ok(Output::default())
        }
    }

    fn steps(is_long: bool) -> (Box<dyn Work>, Sender<&'static str>) {
        let (sender, receiver) = channel();
        (Box::new(Steps { words: Mutex::new(receiver), is_long }), sender)
    }

    fn queue() -> Arc<Queue> {
        let queue = Queue::new(Arc::default(), DeviceKind::Cpu);
        queue.start(ModelSource::at("no/such/model")).unwrap();
        queue
    }

    fn wait_for(job: &Job, state: State) {
        let started = Instant::now();
        while job.state() != state {
            assert!(started.elapsed() < Duration::from_secs(20), "{:?}", job.state());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn one_computes_and_the_others_see_their_place() {
        let queue = queue();
        let (works, words): (Vec<_>, Vec<_>) = (0..3).map(|_| steps(false)).unzip();
        let jobs: Vec<_> = works.into_iter().map(|work| queue.add(work, 1.0).unwrap()).collect();
        wait_for(&jobs[0], State::Running);
        let places: Vec<usize> = jobs.iter().map(|job| job.snapshot().n_before).collect();
        assert_eq!(places, [0, 1, 2]);
        queue.cancel(&jobs[1]);
        assert_eq!((jobs[1].state(), jobs[2].snapshot().n_before), (State::Cancelled, 1));
        words[0].send("end").unwrap();
        wait_for(&jobs[0], State::Done);
        wait_for(&jobs[2], State::Running);
        words[2].send("end").unwrap();
        wait_for(&jobs[2], State::Done);
    }

    #[test]
    fn a_cancel_ends_the_work_with_its_next_step() {
        let queue = queue();
        let (work, words) = steps(false);
        let job = queue.add(work, 1.0).unwrap();
        words.send("step").unwrap();
        wait_for(&job, State::Running);
        queue.cancel(&job);
        words.send("step").unwrap();
        wait_for(&job, State::Cancelled);
    }

    #[test]
    fn a_panic_fails_its_job_alone() {
        let queue = queue();
        let ((first, words), (second, others)) = (steps(false), steps(false));
        let jobs = [first, second].map(|work| queue.add(work, 1.0).unwrap());
        words.send("panic").unwrap();
        others.send("end").unwrap();
        wait_for(&jobs[0], State::Failed);
        wait_for(&jobs[1], State::Done);
        assert_eq!(jobs[0].snapshot().problem.unwrap().code, "panic");
    }

    #[test]
    fn a_full_queue_says_when_to_come_again() {
        let queue = queue();
        let (work, words) = steps(false);
        let first = queue.add(work, 1.0).unwrap();
        wait_for(&first, State::Running);
        let others: Vec<_> = (0..limits::MAX_WAITING).map(|_| steps(false)).collect();
        let (works, senders): (Vec<_>, Vec<_>) = others.into_iter().unzip();
        works.into_iter().for_each(|work| drop(queue.add(work, 7.0).unwrap()));
        let problem = queue.add(steps(false).0, 1.0).err().unwrap();
        assert_eq!((problem.status.as_u16(), problem.retry_after), (429, Some(7)));
        drop((senders, words));
        wait_for(&first, State::Done);
    }

    #[test]
    fn long_work_lets_others_go_first_and_stops_when_the_queue_closes() {
        let queue = queue();
        let ((long, long_words), (short, short_words)) = (steps(true), steps(false));
        let long = queue.add(long, 1e6).unwrap();
        wait_for(&long, State::Running);
        let another = queue.add(steps(true).0, 1e6).unwrap();
        let short = queue.add(short, 1.0).unwrap();
        short_words.send("end").unwrap();
        long_words.send("step").unwrap();
        wait_for(&short, State::Done);
        assert_eq!((long.state(), another.state()), (State::Running, State::Waiting));
        queue.close();
        assert_eq!(another.state(), State::Cancelled);
        long_words.send("step").unwrap();
        wait_for(&long, State::Cancelled);
        assert!(queue.add(steps(false).0, 1.0).is_err());
        let started = Instant::now();
        while !queue.is_at_its_end() {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn the_oldest_results_are_forgotten() {
        let queue = queue();
        let mut last = None;
        for _ in 0..limits::MAX_FINISHED + 5 {
            let job = queue.add(steps(false).0, 0.0).unwrap();
            wait_for(&job, State::Done);
            last = Some(job.id);
        }
        assert!(queue.job(1).is_none() && queue.job(last.unwrap()).is_some());
        let started = Instant::now();
        while queue.counts().2 > limits::MAX_FINISHED {
            assert!(started.elapsed() < Duration::from_secs(20));
        }
    }
}
