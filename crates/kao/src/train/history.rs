//! The history of a run, read from its log.
//!
//! `logs/log.jsonl` holds two kinds of lines: training steps and validations. A run that was resumed
//! at an earlier step has logged some steps twice, and the later lines count; a crash may have
//! truncated a line. This module sorts that out, so that its readers see steps that only increase.
//! A log may have millions of lines; the memory for a history is bounded.

use super::rank_times::RanksReport;
use crate::error::{Error, Result};
use crate::files::{is_missing, open_regular};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The most points of the training curve; in a longer one, pairs are replaced by their means.
const MAX_POINTS: usize = 4096;
/// The most validations; of more, every other one is dropped. The best is kept separately.
const MAX_VALIDATIONS: usize = 8192;
/// The newest lines, from which the current speed is taken.
const N_RECENT: usize = 100;
/// The newest validations, from which the trend is taken.
const N_TREND: usize = 5;
/// Anything longer is not a line of a log.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// A training step; a line of the log holds the means over the steps since the line before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Pictures seen.
    pub images: u64,
    /// The training loss.
    pub loss: f64,
    /// Norm of the gradients before they were scaled.
    pub gradient_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Pictures per second.
    pub images_per_second: f64,
}

/// A validation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValidationReport {
    /// Steps done.
    pub step: u64,
    /// The validation loss of the averaged weights.
    pub validation_loss: f64,
    /// The same by ranges of timesteps; empty where the log does not hold it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub validation_by_t: Vec<RangeLoss>,
    /// The validation loss of the raw weights, which are not averaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_validation_loss: Option<f64>,
}

/// The validation loss of the timesteps `from .. to`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RangeLoss {
    /// The first timestep.
    pub from: usize,
    /// The first timestep after the range.
    pub to: usize,
    /// The mean loss there.
    pub loss: f64,
}

/// Where the validation loss is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Down by more than half a percent over the newest validations.
    Falling,
    /// Neither falling nor rising.
    Flat,
    /// Up by more than half a percent over the newest validations.
    Rising,
}

/// The line of least squares through the newest validation losses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trend {
    /// Where it goes.
    pub direction: Direction,
    /// How much the line rises from the first of these validations to the last, as a share of its
    /// mean.
    pub change: f64,
    /// How many validations these are.
    #[serde(rename = "n_looks")]
    pub n_validations: usize,
}

/// The history of a run. Steps increase from point to point and from validation to validation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The training curve; in a long run, each point is the mean of several lines.
    pub training: Vec<StepReport>,
    /// The newest training line.
    pub last: Option<StepReport>,
    /// The validations; of a great many, only some.
    pub validations: Vec<ValidationReport>,
    /// The validation with the lowest loss; of several, the first.
    pub best: Option<ValidationReport>,
    /// Seconds spent on the training steps that count.
    pub training_seconds: f64,
    /// Pictures per second: the median of the newest lines.
    pub images_per_second: Option<f64>,
    /// How the ranks of the run fared in the newest line; `None` where the run has one alone.
    pub ranks: Option<RanksReport>,
    /// Lines that were skipped: broken, or of another kind. A truncated last line is not counted,
    /// since it may be just being written.
    pub skipped: u64,
}

impl History {
    /// Reads a log.
    ///
    /// # Errors
    /// When the file cannot be read. A file that does not exist yields an empty history.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let refused = |error| Error::io("read", path, error);
        match open_regular(path) {
            Ok(mut file) => {
                let read = scan(&mut file).and_then(|scan| {
                    io::Seek::rewind(&mut file)?;
                    gather(&mut file, &scan)
                });
                read.map_err(refused)
            }
            Err(error) if is_missing(&error) => Ok(History::default()),
            Err(error) => Err(error),
        }
    }

    /// The newest step in the log.
    pub fn last_step(&self) -> Option<u64> {
        let validated = self.validations.last().map(|validation| validation.step);
        self.last.map(|point| point.step).max(validated)
    }

    /// Where the validation loss is going; `None` with fewer than three validations.
    pub fn trend(&self) -> Option<Trend> {
        let newest = &self.validations[self.validations.len().saturating_sub(N_TREND)..];
        if newest.len() < 3 {
            return None;
        }
        let n = newest.len() as f64;
        let mean_step = newest.iter().map(|at| at.step as f64).sum::<f64>() / n;
        let mean_loss = newest.iter().map(|at| at.validation_loss).sum::<f64>() / n;
        let (mut covariance, mut variance) = (0.0, 0.0);
        for at in newest {
            let deviation = at.step as f64 - mean_step;
            covariance += deviation * (at.validation_loss - mean_loss);
            variance += deviation * deviation;
        }
        let span = newest[newest.len() - 1].step - newest[0].step;
        let change = covariance / variance * span as f64 / mean_loss;
        let direction = match change {
            change if change < -0.005 => Direction::Falling,
            change if change > 0.005 => Direction::Rising,
            _ => Direction::Flat,
        };
        change.is_finite().then_some(Trend { direction, change, n_validations: newest.len() })
    }
}

/// A line of the log.
enum Line {
    Training(StepReport, Option<RanksReport>),
    Validation(ValidationReport),
    Broken,
}

impl Line {
    fn parse(bytes: &[u8]) -> Line {
        match serde_json::from_slice::<Fields>(bytes) {
            Ok(fields) => fields.line().unwrap_or(Line::Broken),
            Err(_) => Line::Broken,
        }
    }

    /// When it happened: a validation comes after the training line of its step.
    fn moment(&self) -> Option<Moment> {
        match self {
            Line::Training(point, _) => Some((point.step, false)),
            Line::Validation(validation) => Some((validation.step, true)),
            Line::Broken => None,
        }
    }
}

/// What a line of either kind may hold.
#[derive(Deserialize)]
struct Fields {
    step: u64,
    images: Option<u64>,
    loss: Option<f64>,
    gradient_norm: Option<f64>,
    learning_rate: Option<f64>,
    images_per_second: Option<f64>,
    validation_loss: Option<f64>,
    #[serde(default)]
    validation_by_t: Vec<RangeLoss>,
    raw_validation_loss: Option<f64>,
    ranks: Option<RanksReport>,
}

impl Fields {
    fn line(self) -> Option<Line> {
        let step = self.step;
        if let Some(validation_loss) = self.validation_loss {
            let Fields { validation_by_t, raw_validation_loss, .. } = self;
            return Some(Line::Validation(ValidationReport {
                step,
                validation_loss,
                validation_by_t,
                raw_validation_loss,
            }));
        }
        let report = StepReport {
            step,
            images: self.images?,
            loss: self.loss?,
            gradient_norm: self.gradient_norm?,
            learning_rate: self.learning_rate?,
            images_per_second: self.images_per_second?,
        };
        Some(Line::Training(report, self.ranks))
    }
}

/// A step, and whether it is the validation after it.
type Moment = (u64, bool);

/// What the first pass over the log finds.
struct Scan {
    /// Where the log goes back: the number of the line, and the moment it goes back to. Earlier
    /// lines of that moment or of later ones do not count.
    returns: Vec<(u64, Moment)>,
    /// Complete lines. More may be written before the second pass.
    n_lines: u64,
}

/// Finds where the run was resumed at an earlier step, which decides what earlier lines count.
fn scan(file: &mut File) -> io::Result<Scan> {
    let mut scan = Scan { returns: Vec::new(), n_lines: 0 };
    let mut newest: Option<Moment> = None;
    for_each_line(file, u64::MAX, |number, line| {
        scan.n_lines = number + 1;
        let Some(moment) = line.moment() else { return };
        if newest.is_some_and(|newest| moment <= newest) {
            // This return includes earlier ones to later moments.
            while scan.returns.last().is_some_and(|(_, back_to)| *back_to >= moment) {
                scan.returns.pop();
            }
            scan.returns.push((number, moment));
        }
        newest = Some(moment);
    })?;
    Ok(scan)
}

fn gather(file: &mut File, scan: &Scan) -> io::Result<History> {
    let mut history = History::default();
    let mut curve = Curve::default();
    let mut recent = VecDeque::new();
    // Their moments increase, so the next one to come goes back the furthest.
    let mut returns = scan.returns.iter().peekable();
    for_each_line(file, scan.n_lines, |number, line| {
        while returns.next_if(|(line, _)| *line <= number).is_some() {}
        let undone_from = returns.peek().map(|(_, moment)| *moment);
        let counts = |moment: Option<Moment>| {
            undone_from.is_none_or(|undone_from| moment.is_some_and(|moment| moment < undone_from))
        };
        match line {
            Line::Broken => history.skipped += 1,
            line if !counts(line.moment()) => {}
            Line::Training(point, ranks) => {
                let before = history.last.map_or(0, |last| last.images);
                let seconds = point.images.saturating_sub(before) as f64 / point.images_per_second;
                if seconds.is_finite() && seconds > 0.0 {
                    history.training_seconds += seconds;
                }
                history.last = Some(point);
                history.ranks = ranks;
                curve.add(point);
                if recent.len() == N_RECENT {
                    recent.pop_front();
                }
                recent.push_back(point.images_per_second);
            }
            Line::Validation(validation) => {
                let is_best =
                    |best: &ValidationReport| validation.validation_loss < best.validation_loss;
                if history.best.as_ref().is_none_or(is_best) {
                    history.best = Some(validation.clone());
                }
                history.validations.push(validation);
                if history.validations.len() > MAX_VALIDATIONS {
                    let mut number = 0;
                    history.validations.retain(|_| {
                        number += 1;
                        number % 2 == 1
                    });
                }
            }
        }
    })?;
    history.training = curve.finish();
    history.images_per_second = median(recent.into());
    Ok(history)
}

/// Calls `take` with the complete lines, at most `n_lines` of them, and their numbers from 0. Empty
/// lines are not counted.
fn for_each_line(file: &mut File, n_lines: u64, mut take: impl FnMut(u64, Line)) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut bytes = Vec::new();
    let mut number = 0;
    while number < n_lines {
        bytes.clear();
        let n_read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes)?;
        if n_read == 0 {
            break;
        }
        let mut line = Line::Broken;
        if bytes.ends_with(b"\n") {
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            line = Line::parse(&bytes);
        } else if !skip_rest(&mut reader)? {
            // The last line is truncated.
            break;
        }
        take(number, line);
        number += 1;
    }
    Ok(())
}

/// Skips to the end of the line; `false` when the file ends first.
fn skip_rest(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(false);
        }
        match buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) => {
                reader.consume(at + 1);
                return Ok(true);
            }
            None => {
                let n = buffer.len();
                reader.consume(n);
            }
        }
    }
}

/// A training curve of at most [`MAX_POINTS`]: when it is full, pairs are replaced by their means.
#[derive(Default)]
struct Curve {
    full: Vec<Mean>,
    /// The next point, while lines are added to it.
    growing: Mean,
    lines_per_point: u32,
}

impl Curve {
    fn add(&mut self, point: StepReport) {
        self.lines_per_point = self.lines_per_point.max(1);
        self.growing.add(&point);
        if self.growing.n < self.lines_per_point {
            return;
        }
        self.full.push(std::mem::take(&mut self.growing));
        if self.full.len() == MAX_POINTS {
            self.full = self.full.as_chunks().0.iter().map(Mean::of).collect();
            self.lines_per_point *= 2;
        }
    }

    fn finish(mut self) -> Vec<StepReport> {
        if self.growing.n > 0 {
            self.full.push(self.growing);
        }
        self.full.iter().filter_map(Mean::value).collect()
    }
}

/// Sums of lines.
#[derive(Clone, Copy, Default)]
struct Mean {
    n: u32,
    last: Option<StepReport>,
    loss: f64,
    gradient_norm: f64,
    learning_rate: f64,
    images_per_second: f64,
}

impl Mean {
    fn add(&mut self, point: &StepReport) {
        let one = Mean {
            n: 1,
            last: Some(*point),
            loss: point.loss,
            gradient_norm: point.gradient_norm,
            learning_rate: point.learning_rate,
            images_per_second: point.images_per_second,
        };
        *self = Mean::of(&[*self, one]);
    }

    fn of([a, b]: &[Mean; 2]) -> Mean {
        Mean {
            n: a.n + b.n,
            last: b.last.or(a.last),
            loss: a.loss + b.loss,
            gradient_norm: a.gradient_norm + b.gradient_norm,
            learning_rate: a.learning_rate + b.learning_rate,
            images_per_second: a.images_per_second + b.images_per_second,
        }
    }

    fn value(&self) -> Option<StepReport> {
        let n = f64::from(self.n);
        let last = self.last?;
        Some(StepReport {
            loss: self.loss / n,
            gradient_norm: self.gradient_norm / n,
            learning_rate: self.learning_rate / n,
            images_per_second: self.images_per_second / n,
            ..last
        })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.get(values.len().wrapping_sub(1) / 2)?, values[values.len() / 2]);
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn training(step: u64, loss: f64) -> String {
        format!(
            "{}\n",
            json!({
                "step": step, "images": 4 * step, "loss": loss, "gradient_norm": 1.0,
                "learning_rate": 1e-3, "images_per_second": 2.0, "colour": "unknown",
            })
        )
    }

    fn validation(step: u64, loss: f64) -> String {
        format!("{}\n", json!({"step": step, "validation_loss": loss}))
    }

    fn read(log: &str) -> History {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), log).unwrap();
        History::read(file.path()).unwrap()
    }

    fn steps(history: &History) -> (Vec<u64>, Vec<u64>) {
        let training = history.training.iter().map(|point| point.step).collect();
        (training, history.validations.iter().map(|at| at.step).collect())
    }

    #[test]
    fn both_kinds_of_lines_are_read() {
        let by_t = json!({
            "step": 20, "validation_loss": 0.5, "raw_validation_loss": 0.6, "new": [1],
            "validation_by_t": [{"from": 0, "to": 500, "loss": 0.8}, {"from": 500, "to": 1000, "loss": 0.2}],
        });
        let log = [
            &training(10, 3.0),
            &validation(10, 0.7),
            &training(20, 2.0),
            "",
            &by_t.to_string(),
            "\n",
        ];
        let history = read(&log.concat());
        assert_eq!(steps(&history), (vec![10, 20], vec![10, 20]));
        let last = history.last.unwrap();
        assert_eq!((last.images, last.loss, last.learning_rate), (80, 2.0, 1e-3));
        // 80 pictures at 2 per second.
        assert_eq!((history.training_seconds, history.images_per_second), (40.0, Some(2.0)));
        let best = history.best.clone().unwrap();
        assert_eq!((best.step, best.raw_validation_loss), (20, Some(0.6)));
        assert_eq!(best.validation_by_t[1], RangeLoss { from: 500, to: 1000, loss: 0.2 });
        assert_eq!((history.last_step(), history.skipped, history.trend()), (Some(20), 0, None));
    }

    #[test]
    fn a_missing_log_is_empty_and_a_folder_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        assert_eq!(History::read(&path).unwrap(), History::default());
        assert_eq!(read(""), History::default());
        let error = History::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
    }

    #[test]
    fn broken_lines_are_counted_except_for_a_truncated_last_one() {
        let (a, b) = (training(10, 1.0), training(20, 1.0));
        let long = "x".repeat(2 * MAX_LINE_BYTES as usize);
        let broken = ["{\"step\":\n", "[]\n", "{\"step\":5}\n", "\u{0}\n", &long, "\n"].concat();
        let history = read(&format!("{a}\n \n{broken}{b}{}", &training(30, 1.0)[..20]));
        assert_eq!((steps(&history).0, history.skipped), (vec![10, 20], 5));
        // A line that may be just being written is not counted, however long it is.
        let history = read(&format!("{a}{long}"));
        assert_eq!((steps(&history).0, history.skipped), (vec![10], 0));
        // A killed and resumed run leaves a truncated line in front of the next one.
        let history = read(&format!("{a}{}{}{b}", &training(11, 1.0)[..30], training(12, 1.0)));
        assert_eq!((steps(&history).0, history.skipped), (vec![10, 20], 1));
    }

    #[test]
    fn of_steps_that_were_logged_twice_the_later_lines_count() {
        let log = [
            training(10, 1.0),
            validation(10, 1.0),
            training(20, 1.0),
            validation(20, 0.1),
            training(30, 1.0),
            // Resumed at 10, and once more at 15.
            training(20, 2.0),
            validation(20, 2.0),
            training(20, 3.0),
            validation(25, 3.0),
            training(30, 3.0),
        ];
        let history = read(&log.concat());
        assert_eq!(steps(&history), (vec![10, 20, 30], vec![10, 25]));
        let losses: Vec<f64> = history.training.iter().map(|point| point.loss).collect();
        assert_eq!(losses, [1.0, 3.0, 3.0]);
        // The best one no longer counts.
        assert_eq!(history.best.unwrap().step, 10);
        // A validation that was repeated.
        let history = read(&[training(10, 1.0), validation(10, 1.0), validation(10, 2.0)].concat());
        assert_eq!(
            (steps(&history), history.validations[0].validation_loss),
            ((vec![10], vec![10]), 2.0)
        );
    }

    #[test]
    fn a_long_log_is_thinned() {
        let n = 3 * MAX_POINTS as u64 + 7;
        let log: String =
            (1..=n).map(|step| training(step, step as f64) + &validation(step, 1.0)).collect();
        let history = read(&log);
        assert!((MAX_POINTS / 2..=MAX_POINTS).contains(&history.training.len()));
        assert!((MAX_VALIDATIONS / 2..=MAX_VALIDATIONS).contains(&history.validations.len()));
        assert_eq!((history.training.last().unwrap().step, history.last_step()), (n, Some(n)));
        assert_eq!(history.validations.last().unwrap().step, n);
        // Means of 4: of steps 1 to 4, for one.
        assert_eq!((history.training[0].step, history.training[0].loss), (4, 2.5));
        assert_eq!(history.training_seconds, 2.0 * n as f64);
    }

    #[test]
    fn trends() {
        let direction = |losses: &[f64]| {
            let log = losses.iter().zip(1..).map(|(&loss, step)| validation(10 * step, loss));
            read(&log.collect::<String>()).trend().map(|trend| trend.direction)
        };
        assert_eq!(direction(&[0.3, 0.2]), None);
        assert_eq!(direction(&[0.3, 0.2, 0.1]), Some(Direction::Falling));
        assert_eq!(direction(&[0.9, 0.1, 0.2, 0.3, 0.3, 0.4]), Some(Direction::Rising));
        assert_eq!(direction(&[0.9, 0.1, 0.1001, 0.1, 0.0999, 0.1]), Some(Direction::Flat));
        let trend = read(&[validation(1, 4.0), validation(3, 3.0), validation(5, 2.0)].concat())
            .trend()
            .unwrap();
        assert_eq!((trend.change, trend.n_validations), (-2.0 / 3.0, 3));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Compared with a plain implementation that keeps everything and drops what a line undoes.
        #[test]
        fn any_order_of_steps_becomes_one_that_increases(
            lines in prop::collection::vec((1..30u64, any::<bool>()), 0..60),
            cut in 0..40usize,
        ) {
            let mut log = String::new();
            let mut expected = BTreeMap::new();
            for (n, &(step, is_validation)) in lines.iter().enumerate() {
                log += &if is_validation { validation(step, n as f64) } else { training(step, n as f64) };
                expected.retain(|moment, _| *moment < (step, is_validation));
                expected.insert((step, is_validation), n as f64);
            }
            log += &training(99, 1.0)[..cut];
            let history = read(&log);
            let of = |kind: bool| -> Vec<(u64, f64)> {
                expected.iter().filter(|((_, is_validation), _)| *is_validation == kind)
                    .map(|((step, _), loss)| (*step, *loss)).collect()
            };
            let found: Vec<_> = history.training.iter().map(|p| (p.step, p.loss)).collect();
            prop_assert_eq!(found, of(false));
            let found: Vec<_> = history.validations.iter().map(|at| (at.step, at.validation_loss)).collect();
            prop_assert_eq!(found, of(true));
        }

        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            History::read(file.path()).unwrap();
        }
    }
}
