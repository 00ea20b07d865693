//! What a user sees while they wait: a bar on a terminal, now and then a line elsewhere.

use crate::output::{is_quiet, note};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
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

    /// So many units are done. May be called from any thread.
    pub fn set(&self, done: u64) {
        self.set_with(done, String::new);
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

/// Seconds in words: `42 s`, `3 min 5 s`, `2 h 10 min`, `3 days 4 h`, `102 days`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match hours {
        0 if minutes == 0 => format!("{seconds} s"),
        0 => format!("{minutes} min {} s", seconds % 60),
        1..48 => format!("{hours} h {} min", minutes % 60),
        48..240 => format!("{} days {} h", hours / 24, hours % 24),
        _ => format!("{} days", hours / 24),
    }
}

/// Estimated seconds in words, no more exact than an estimate is: `20 min`, `5 h`, `41 days`.
pub fn estimate(seconds: f64) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    const DAY: f64 = 24.0 * HOUR;
    let of = |unit: f64| (seconds / unit).round().max(1.0) as u64;
    match seconds {
        seconds if seconds < 1.5 * MINUTE => format!("{} s", of(1.0)),
        seconds if seconds < 1.5 * HOUR => format!("{} min", of(MINUTE)),
        seconds if seconds < 2.0 * DAY => format!("{} h", of(HOUR)),
        _ => format!("{} days", of(DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words() {
        assert_eq!(duration(0.4), "0 s");
        assert_eq!(duration(59.6), "1 min 0 s");
        assert_eq!(duration(7800.0), "2 h 10 min");
        assert_eq!(duration(-1.0), "0 s");
        assert_eq!(duration(50.0 * 3600.0), "2 days 2 h");
        // What `anime64` took where "14w left" was said.
        assert_eq!(duration(2447.0 * 3600.0), "101 days");
    }

    #[test]
    fn estimates_are_round() {
        let hour = 3600.0;
        let cases = [
            (0.1, "1 s"),
            (80.0, "80 s"),
            (1210.0, "20 min"),
            (5.3 * hour, "5 h"),
            (41.2 * 24.0 * hour, "41 days"),
        ];
        for (seconds, words) in cases {
            assert_eq!(estimate(seconds), words);
        }
    }

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
