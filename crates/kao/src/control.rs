//! How long work reports its progress and learns that it should stop.
//!
//! Every operation of the library that can take long takes a [`Control`]. A terminal draws a bar
//! from the reports, a server sends them on, a test counts them. This module knows nothing of the
//! work itself: a report is plain data.

use crate::error::{Error, Result};
use crate::images::Images;
use std::ops::ControlFlow;
use std::path::Path;

/// The state of some work at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What is being done, as a short phrase: `sampling`, `training`, `validation`. Stable, so that
    /// programs can tell stages apart.
    pub stage: &'static str,
    /// More about this stage for people, such as `run 2 of 8`; empty where there is no more to say.
    pub detail: &'a str,
    /// How many units are done.
    pub done: u64,
    /// How many units there are in all, as far as is known.
    pub total: Option<u64>,
    /// The plural of the unit: `images`, `steps`, `network evaluations`.
    pub unit: &'static str,
    /// Measurements by name, such as `("loss", 0.07)`. Names are stable.
    pub values: &'a [(&'static str, f64)],
    /// A file that has just been written.
    pub file: Option<&'a Path>,
    /// Something to tell the user once; a warning begins with `warning: `.
    pub message: Option<&'a str>,
    /// Images to look at, `[N, C, H, W]`, nominally in [-1, 1].
    pub preview: Option<&'a Images>,
}

impl<'a> Report<'a> {
    /// A report of progress alone.
    pub fn progress(
        stage: &'static str,
        done: u64,
        total: Option<u64>,
        unit: &'static str,
    ) -> Self {
        Report {
            stage,
            detail: "",
            done,
            total,
            unit,
            values: &[],
            file: None,
            message: None,
            preview: None,
        }
    }

    /// Something to tell the user once. It is no progress: `done` and `total` say nothing.
    pub fn message(stage: &'static str, message: &'a str) -> Self {
        Report { message: Some(message), ..Report::progress(stage, 0, None, "") }
    }
}

/// Receives reports and decides whether the work goes on.
///
/// Reports may come from several threads at once.
pub trait Control: Sync {
    /// Called after each unit of work, or more often. With `Break` the work ends as soon as it can:
    /// training saves first, everything else leaves nothing behind.
    fn report(&self, report: &Report<'_>) -> ControlFlow<()>;

    /// Whether reports should carry previews where the work has any. Making one costs time.
    fn wants_previews(&self) -> bool {
        false
    }

    /// As [`report`](Self::report), for work that ends with an error when it is to stop.
    ///
    /// # Errors
    /// [`Interrupted`](crate::ErrorKind::Interrupted) when the work is to stop.
    fn check(&self, report: &Report<'_>) -> Result<()> {
        match self.report(report) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::interrupted()),
        }
    }
}

/// Ignores all reports and never stops the work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unattended;

impl Control for Unattended {
    fn report(&self, _: &Report<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A closure is a control, which is convenient in tests and short programs.
impl<F: Fn(&Report<'_>) -> ControlFlow<()> + Sync> Control for F {
    fn report(&self, report: &Report<'_>) -> ControlFlow<()> {
        self(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn stopping_is_an_error_of_its_own_kind() {
        let seen = AtomicU64::new(0);
        let control = |report: &Report<'_>| {
            seen.store(report.done, Ordering::Relaxed);
            if report.done < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let report = |done| control.check(&Report::progress("counting", done, None, "units"));
        assert!(report(1).is_ok());
        let error = report(2).unwrap_err();
        assert!(matches!(error.kind(), crate::ErrorKind::Interrupted), "{error}");
        assert_eq!(seen.into_inner(), 2);
    }
}
