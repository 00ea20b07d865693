//! Counters, in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the server counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Answers by the first digit of their status.
    answers: [AtomicU64; 6],
    pub connections: AtomicU64,
    pub jobs_done: AtomicU64,
    pub jobs_failed: AtomicU64,
    pub jobs_cancelled: AtomicU64,
    pub jobs_refused: AtomicU64,
    pub images: AtomicU64,
    pub busy_milliseconds: AtomicU64,
}

/// What is known of the moment.
pub struct Now {
    pub waiting: usize,
    pub running: usize,
    pub kept_jobs: usize,
    pub kept_bytes: usize,
    pub open_connections: usize,
}

impl Metrics {
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).min(self.answers.len() - 1);
        self.answers[class].fetch_add(1, Ordering::Relaxed);
    }

    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub fn to_text(&self, now: &Now) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, values: &[(String, f64)]| {
            let _ = write!(text, "# HELP kao_{name} {help}\n# TYPE kao_{name} {kind}\n");
            for (labels, value) in values {
                let _ = writeln!(text, "kao_{name}{labels} {value}");
            }
        };
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let plain = |value: f64| vec![(String::new(), value)];
        let answers: Vec<(String, f64)> = (1..self.answers.len())
            .map(|class| (format!("{{class=\"{class}xx\"}}"), of(&self.answers[class])))
            .collect();
        metric(
            "http_responses_total",
            "counter",
            "Answers by the class of their status.",
            &answers,
        );
        metric("connections_total", "counter", "Connections.", &plain(of(&self.connections)));
        let open = now.open_connections as f64;
        metric("connections_open", "gauge", "Connections that are open.", &plain(open));
        let ended: Vec<(String, f64)> = [
            ("done", &self.jobs_done),
            ("failed", &self.jobs_failed),
            ("cancelled", &self.jobs_cancelled),
            ("refused", &self.jobs_refused),
        ]
        .map(|(state, counter)| (format!("{{state=\"{state}\"}}"), of(counter)))
        .to_vec();
        metric("jobs_total", "counter", "Jobs by how they ended.", &ended);
        metric("jobs_waiting", "gauge", "Jobs that wait.", &plain(now.waiting as f64));
        metric("jobs_running", "gauge", "Jobs that compute.", &plain(now.running as f64));
        metric("jobs_kept", "gauge", "Jobs whose results are kept.", &plain(now.kept_jobs as f64));
        metric("result_bytes", "gauge", "Bytes of results.", &plain(now.kept_bytes as f64));
        metric("images_total", "counter", "Images that were made.", &plain(of(&self.images)));
        let seconds = of(&self.busy_milliseconds) / 1000.0;
        metric("busy_seconds_total", "counter", "Seconds of computing.", &plain(seconds));
        if let Some(peak) = kao::memory::peak() {
            metric("memory_peak_bytes", "gauge", "Peak memory.", &plain(peak as f64));
        }
        text
    }
}
