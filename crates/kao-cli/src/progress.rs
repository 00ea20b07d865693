//! What a user sees while they wait: a bar on a terminal, now and then a line elsewhere.

use crate::interrupt;
use crate::output::{is_quiet, note, one_line};
use crate::usage;
use indicatif::{ProgressBar, ProgressStyle};
use kao::control::{Control, Report};
use kao::quantities::duration;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Seconds between lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// After so long the first line may tell how long the work will take.
const FIRST_LINE: Duration = Duration::from_secs(2);
/// Work that takes less is not worth a first line.
const LONG_WORK: f64 = 20.0;
/// Columns of a line, those of the narrowest usual terminal.
const COLUMNS: usize = 80;
/// Columns of the bar alone.
const BAR_COLUMNS: usize = 20;

/// Progress of one piece of work.
pub struct Progress {
    label: String,
    unit: String,
    total: u64,
    started: Instant,
    done_before: u64,
    bar: Option<ProgressBar>,
    /// When the last line was written; none at first.
    last_line: Mutex<Option<Instant>>,
}

impl Progress {
    /// Work of `total` units, whose plural is `unit`.
    pub fn new(label: impl Into<String>, total: u64, unit: &str) -> Self {
        let label = label.into();
        let bar = (std::io::stderr().is_terminal() && !is_quiet()).then(|| {
            let template = format!("{{prefix}} {{bar:{BAR_COLUMNS}}} {{msg}}");
            let style = ProgressStyle::with_template(&template)
                .expect("the template is well-formed")
                .progress_chars("━╸ ");
            ProgressBar::new(total).with_style(style).with_prefix(label.clone())
        });
        let (unit, started) = (unit.to_owned(), Instant::now());
        let last_line = Mutex::new(None);
        let progress = Progress { label, unit, total, started, done_before: 0, bar, last_line };
        progress.draw(0, total, "");
        progress
    }

    /// The same work, of which so many units were done before it began.
    pub fn starting_at(mut self, done: u64) -> Self {
        self.done_before = done;
        self.draw(done, self.total, "");
        self
    }

    /// So many units are done of a total that is known only now.
    pub fn set_of(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
        self.report(done, total, String::new);
    }

    /// So many units are done; `message` says more.
    pub fn set_with(&self, done: u64, message: impl Fn() -> String) {
        self.report(done, self.total, message);
    }

    fn report(&self, done: u64, total: u64, message: impl Fn() -> String) {
        if self.bar.is_some() {
            return self.draw(done, total, &message());
        }
        let Ok(mut last_line) = self.last_line.lock() else { return };
        let is_due = match *last_line {
            Some(at) => at.elapsed() >= LINE_INTERVAL,
            // How long it will take is told soon, where it takes long.
            None => {
                let elapsed = self.started.elapsed();
                let is_long = self.seconds_left(done, total).is_some_and(|left| left > LONG_WORK);
                elapsed >= LINE_INTERVAL || elapsed >= FIRST_LINE && is_long
            }
        };
        if is_due {
            *last_line = Some(Instant::now());
            let line = format!("{} {}", self.label, self.state(done, total, &message()));
            note(fitted(line, COLUMNS));
        }
    }

    /// The bar, as it is now.
    fn draw(&self, done: u64, total: u64, message: &str) {
        let Some(bar) = &self.bar else { return };
        let columns = COLUMNS.saturating_sub(self.label.chars().count() + BAR_COLUMNS + 2);
        bar.set_message(fitted(self.state(done, total, message), columns));
        bar.set_position(done);
    }

    /// `250/1000 steps, 3 min 5 s left`, and what else there is to say.
    fn state(&self, done: u64, total: u64, message: &str) -> String {
        let left = self.seconds_left(done, total).map_or_else(|| "–".to_owned(), duration);
        let separator = if message.is_empty() { "" } else { ", " };
        format!("{done}/{total} {}, {left} left{separator}{message}", self.unit)
    }

    /// Seconds that what is left takes at the mean speed so far; unknown before anything is done.
    fn seconds_left(&self, done: u64, total: u64) -> Option<f64> {
        let done_now = done.checked_sub(self.done_before).filter(|n| *n > 0)?;
        let elapsed = self.started.elapsed().as_secs_f64();
        Some(elapsed / done_now as f64 * total.saturating_sub(done) as f64)
    }

    /// A line above the bar, on standard error.
    pub fn say(&self, words: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(words)),
            None => note(words),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `line` without those of its last parts, separated by commas, that do not fit.
fn fitted(mut line: String, columns: usize) -> String {
    while line.chars().count() > columns
        && let Some(end) = line.rfind(", ")
    {
        line.truncate(end);
    }
    line
}

/// Shows the progress of a command on standard error, and stops its work when the user asks for it.
#[derive(Default)]
pub struct Terminal {
    current: Mutex<Option<Stage>>,
    /// What is said when the work begins, and nothing that was typed can be wrong any more.
    first_words: Mutex<Option<String>>,
}

/// The stage that is being shown.
struct Stage {
    /// What it is called, which tells it from the next.
    label: String,
    done: u64,
    progress: Progress,
}

impl Terminal {
    /// Says `words`, if any, when the work begins.
    pub fn beginning_with(words: Option<String>) -> Self {
        Terminal { first_words: Mutex::new(words), ..Terminal::default() }
    }

    /// A line on standard error, above the bar where there is one.
    pub fn say(&self, words: &str) {
        let words = one_line(&usage::with_flags(words));
        match self.current.lock() {
            Ok(current) if current.is_some() => {
                if let Some(stage) = &*current {
                    stage.progress.say(&words);
                }
            }
            _ => note(words),
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Ok(mut current) = self.current.lock() {
            *current = None;
        }
    }
}

impl Control for Terminal {
    fn report(&self, report: &Report<'_>) -> ControlFlow<()> {
        match report.message {
            Some(message) => self.say(message),
            None => {
                let first_words = self.first_words.lock().ok().and_then(|mut words| words.take());
                if let Some(words) = first_words {
                    self.say(&words);
                }
                let Report { stage, detail, done, total, unit, .. } = *report;
                let label = if detail.is_empty() { stage } else { detail }.to_owned();
                if let Ok(mut current) = self.current.lock() {
                    if current.as_ref().is_none_or(|current| current.label != label) {
                        // The old bar goes before the new one comes.
                        *current = None;
                        let progress = Progress::new(label.clone(), total.unwrap_or(0), unit);
                        *current = Some(Stage { label, done, progress });
                    }
                    if let Some(current) = &mut *current {
                        // Threads may report in another order than they count.
                        current.done = current.done.max(done);
                        current.progress.set_of(current.done, total.unwrap_or(0));
                    }
                }
            }
        }
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_unknown_before_anything_is_done() {
        let progress = Progress::new("training", 500, "steps").starting_at(100);
        assert_eq!(progress.state(100, 500, ""), "100/500 steps, – left");
        assert_eq!(progress.state(101, 500, "loss 1"), "101/500 steps, 0 s left, loss 1");
    }

    #[test]
    fn lines_fit_a_terminal() {
        let progress = Progress::new("training", 236_000, "steps");
        let message = "loss 0.1234, 8 images/s, saved at 123000, and more than fits here";
        let line = format!("training {}", progress.state(123_456, 236_000, message));
        let line = fitted(line, COLUMNS);
        assert!(line.chars().count() <= COLUMNS, "{line}");
        assert!(line.contains("loss 0.1234, 8 images/s"), "{line}");
    }
}
