//! Charts of a run's history.

use super::history::{History, RangeLoss, ValidationReport};
use crate::error::Result;
use crate::render::{Chart, Curve, Picture, Scale, Style, charts};

/// Width and height of each chart.
const SIZE: [usize; 2] = [1000, 600];

/// Draws the losses of training and validation over the steps, and below them, where the log holds
/// it, the validation loss by ranges of timesteps. `name` is part of the title.
///
/// # Errors
/// None in practice: charts of this size can be drawn.
pub fn draw(history: &History, name: &str) -> Result<Picture> {
    let mut all = vec![losses(history, name)];
    let ranges = ranges(&history.validations);
    if !ranges.is_empty() {
        all.push(by_t(history, &ranges));
    }
    charts(&all, SIZE)
}

fn losses(history: &History, name: &str) -> Chart {
    let training = Curve {
        // Not comparable with validation: the run chooses the timesteps that it trains on.
        name: "training, at timesteps as they are drawn".to_owned(),
        points: history.training.iter().map(|point| (point.step as f64, point.loss)).collect(),
        style: Style::Noisy,
    };
    let validation = match &history.best {
        Some(best) => {
            format!(
                "validation, timesteps spread evenly; best {:.5} at step {}",
                best.validation_loss, best.step
            )
        }
        None => "validation, timesteps spread evenly".to_owned(),
    };
    let mut curves = vec![training];
    if history.validations.iter().any(|at| at.raw_validation_loss.is_some()) {
        let name = "validation of the raw weights".to_owned();
        curves.push(validations(history, name, |at| at.raw_validation_loss));
    }
    curves.push(validations(history, validation, |at| Some(at.validation_loss)));
    chart(format!("{name}: loss"), curves)
}

fn by_t(history: &History, ranges: &[[usize; 2]]) -> Chart {
    let curve = |&[from, to]: &[usize; 2]| {
        let loss = |range: &RangeLoss| ([range.from, range.to] == [from, to]).then_some(range.loss);
        validations(history, format!("t {from}-{}", to.saturating_sub(1)), |at| {
            at.validation_by_t.iter().find_map(loss)
        })
    };
    chart("validation loss by timestep".to_owned(), ranges.iter().map(curve).collect())
}

fn chart(title: String, curves: Vec<Curve>) -> Chart {
    Chart { title, x_label: "steps".to_owned(), scale: Scale::Log, curves }
}

fn validations(
    history: &History,
    name: String,
    value: impl Fn(&ValidationReport) -> Option<f64>,
) -> Curve {
    let point = |at: &ValidationReport| value(at).map(|value| (at.step as f64, value));
    let points = history.validations.iter().filter_map(point).collect();
    Curve { name, points, style: Style::Marked }
}

/// The ranges of timesteps of the newest validation that has any: a chart shows one set of ranges.
fn ranges(validations: &[ValidationReport]) -> Vec<[usize; 2]> {
    let newest = validations.iter().rev().find(|at| !at.validation_by_t.is_empty());
    let ranges = newest.into_iter().flat_map(|at| &at.validation_by_t);
    ranges.map(|range| [range.from, range.to]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_chart_is_there_when_the_log_has_its_values() {
        let validation = |step, by_t: &[(usize, usize, f64)]| ValidationReport {
            step,
            validation_loss: 0.5,
            validation_by_t: by_t
                .iter()
                .map(|&(from, to, loss)| RangeLoss { from, to, loss })
                .collect(),
            raw_validation_loss: None,
        };
        let mut history = History { validations: vec![validation(10, &[])], ..History::default() };
        assert_eq!(draw(&history, "run").unwrap().height(), SIZE[1]);
        assert_eq!(draw(&History::default(), "").unwrap().height(), SIZE[1]);
        history.validations.push(validation(20, &[(0, 500, 0.8), (500, 1000, 0.2)]));
        history.validations.push(validation(30, &[(0, 500, 0.7), (500, 1000, 0.1)]));
        assert_eq!(draw(&history, "run").unwrap().height(), 2 * SIZE[1]);
        let chart = by_t(&history, &ranges(&history.validations));
        let names: Vec<&str> = chart.curves.iter().map(|curve| curve.name.as_str()).collect();
        assert_eq!(names, ["t 0-499", "t 500-999"]);
        assert_eq!(chart.curves[1].points, [(20.0, 0.2), (30.0, 0.1)]);
        assert_eq!(losses(&history, "run").curves.len(), 2);
    }
}
