//! What a user sees while they wait: a bar on a terminal, now and then a line elsewhere.

use crate::output::note;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Seconds between lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Progress of one piece of work.
pub struct Progress {
    label: String,
    total: u64,
    started: Instant,
    done_before: u64,
    bar: Option<ProgressBar>,
    last_line: Mutex<Instant>,
}

impl Progress {
    /// Work of `total` units, whose plural is `unit`.
    pub fn new(label: impl Into<String>, total: u64, unit: &str) -> Self {
        let label = label.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = format!(
                "{{prefix}} {{bar:30}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left  {{msg}}"
            );
            let style = ProgressStyle::with_template(&template)
                .expect("the template is well-formed")
                .progress_chars("━╸ ");
            ProgressBar::new(total).with_style(style).with_prefix(label.clone())
        });
        let now = Instant::now();
        Progress { label, total, started: now, done_before: 0, bar, last_line: Mutex::new(now) }
    }

    /// The same work, of which so many units were done before it began.
    pub fn starting_at(mut self, done: u64) -> Self {
        self.done_before = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.reset_eta();
        }
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
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            let message = message();
            if !message.is_empty() {
                bar.set_message(message);
            }
            return;
        }
        let Ok(mut last_line) = self.last_line.lock() else { return };
        if last_line.elapsed() >= LINE_INTERVAL {
            *last_line = Instant::now();
            note(self.line(done, total, &message()));
        }
    }

    fn line(&self, done: u64, total: u64, message: &str) -> String {
        let elapsed = self.started.elapsed().as_secs_f64();
        let done_now = done.saturating_sub(self.done_before).max(1);
        let left = elapsed / done_now as f64 * total.saturating_sub(done) as f64;
        let separator = if message.is_empty() { "" } else { ", " };
        format!("{} {done}/{total}, {} left{separator}{message}", self.label, duration(left))
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

/// Seconds in words: `42 s`, `3 min 5 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_in_words() {
        assert_eq!(duration(0.4), "0 s");
        assert_eq!(duration(59.6), "1 min 0 s");
        assert_eq!(duration(7800.0), "2 h 10 min");
        assert_eq!(duration(-1.0), "0 s");
    }
}
