//! The distance of each method over its cost, as a drawing (SVG) on logarithmic axes.

use super::tables::Comparison;
use crate::requests::series::escape;
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
/// Left, right, top and bottom of the axes.
const FRAME: [f64; 4] = [64.0, 640.0, 20.0, 410.0];

/// Middle tones, which can be told from a light and from a dark background.
const COLOURS: [&str; 10] = [
    "#4c78d8", "#e0802c", "#2fa36b", "#d1495b", "#8a63d2", "#9c755f", "#d45fa8", "#7a8a99",
    "#a99a1f", "#2aa5b8",
];

/// Costs that are written below the axis, each of them.
const MOST_TICKS: usize = 8;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#222}.grid{stroke:#8884;stroke-width:1}\
    .floor{stroke:#888;stroke-dasharray:6 4;stroke-width:1.5}.line{fill:none;stroke-width:2}\
    @media(prefers-color-scheme:dark){text{fill:#e8e8ea}}";

/// One axis: values from `low` to `high`, on positions from `from` to `to`.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// For these values, all above 0, with a little room on both sides.
    fn of(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        const ROOM: f64 = 1.15;
        let low = values.clone().fold(f64::INFINITY, f64::min) / ROOM;
        let high = values.fold(0.0, f64::max) * ROOM;
        Axis { low, high, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }

    /// 1, 2 and 5 of every power of ten that is on the axis, and more where those are few.
    fn ticks(&self) -> Vec<f64> {
        const FEW: usize = 3;
        let first = self.low.log10().floor() as i32;
        let ticks = |of: &[f64]| -> Vec<f64> {
            let powers = first..=first + 12;
            let all = powers.flat_map(|power| of.iter().map(move |of| of * 10f64.powi(power)));
            all.filter(|tick| (self.low..=self.high).contains(tick)).collect()
        };
        match ticks(&[1.0, 2.0, 5.0]) {
            few if few.len() < FEW => {
                ticks(&[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
            }
            enough => enough,
        }
    }
}

/// The drawing, where distances were measured.
pub(super) fn svg(comparisons: &[Comparison]) -> Option<String> {
    let is_drawn = |of: &&Comparison| of.distance.is_some_and(|distance| distance > 0.0);
    let drawn: Vec<&Comparison> = comparisons.iter().filter(is_drawn).collect();
    let floor = drawn.first()?.floor.filter(|floor| *floor > 0.0);
    let distance = |of: &Comparison| of.distance.unwrap_or(1.0);
    let [left, right, top, bottom] = FRAME;
    let evaluations = drawn.iter().map(|of| of.evaluations as f64);
    let x = Axis::of(evaluations, left, right);
    let y = Axis::of(drawn.iter().map(|of| distance(of)).chain(floor), bottom, top);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"distance from real pictures over evaluations of the network\">\n\
         <style>{STYLE}</style>\n"
    );
    // Writing to a string cannot fail.
    let mut costs: Vec<usize> = drawn.iter().map(|of| of.evaluations).collect();
    costs.sort_unstable();
    costs.dedup();
    let costs = match costs.len() {
        0..=MOST_TICKS => costs.into_iter().map(|n| n as f64).collect(),
        _ => x.ticks(),
    };
    for tick in costs {
        let at = x.at(tick);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} {top}V{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            label(tick)
        );
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            at + 4.0,
            label(tick)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">evaluations of the network for each \
         image</text>\n<text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">\
         distance from real pictures</text>",
        (left + right) / 2.0,
        bottom + 40.0,
        (top + bottom) / 2.0
    );
    if let Some(floor) = floor {
        let at = y.at(floor);
        let _ = writeln!(
            svg,
            "<path class=\"floor\" d=\"M{left} {at:.1}H{right}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">floor: real from real</text>",
            left + 6.0,
            at - 5.0
        );
    }
    for (index, line) in lines(&drawn).iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let dashes = if index < COLOURS.len() { "" } else { " stroke-dasharray=\"5 3\"" };
        let places = line.iter().map(|of| [x.at(of.evaluations as f64), y.at(distance(of))]);
        let places: Vec<[f64; 2]> = places.collect();
        let path: Vec<String> = places.iter().map(|[x, y]| format!("{x:.1} {y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<path class=\"line\" stroke=\"{colour}\"{dashes} d=\"M{}\"/>",
            path.join("L")
        );
        for ([x, y], of) in places.iter().zip(line) {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\">\
                 <title>{}, {} steps, {} evaluations: {:.2}</title></circle>",
                escape(&of.method()),
                of.steps,
                of.evaluations,
                distance(of)
            );
        }
        let at = top + 14.0 + 20.0 * index as f64;
        let _ = writeln!(
            svg,
            "<path class=\"line\" stroke=\"{colour}\"{dashes} d=\"M{:.1} {:.1}h22\"/>\
             <text x=\"{:.1}\" y=\"{at:.1}\">{}</text>",
            right + 16.0,
            at - 4.0,
            right + 44.0,
            escape(&line[0].method())
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// A tick without what rounding adds to it.
fn label(tick: f64) -> f64 {
    const DIGITS: f64 = 1e6;
    (tick * DIGITS).round() / DIGITS
}

/// The combinations of each method, cheapest first.
fn lines<'a>(drawn: &[&'a Comparison]) -> Vec<Vec<&'a Comparison>> {
    let mut lines: Vec<Vec<&Comparison>> = Vec::new();
    for &of in drawn {
        match lines.iter_mut().find(|line| line[0].method() == of.method()) {
            Some(line) => line.push(of),
            None => lines.push(vec![of]),
        }
    }
    lines.iter_mut().for_each(|line| line.sort_by_key(|of| of.evaluations));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(sampler: &'static str, evaluations: usize, distance: f64) -> Comparison {
        Comparison {
            name: format!("{sampler}-{evaluations}"),
            sampler,
            title: sampler,
            eta: None,
            steps: evaluations,
            evaluations,
            seconds_per_image: 0.1,
            distance: Some(distance),
            floor: Some(10.0),
        }
    }

    #[test]
    fn a_line_for_each_method_and_a_point_for_each_combination() {
        let comparisons =
            [comparison("a<b", 10, 20.0), comparison("a<b", 5, 40.0), comparison("c", 5, 30.0)];
        let svg = svg(&comparisons).unwrap();
        assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"line\"").count()), (3, 4));
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"), "{svg}");
        assert!(svg.contains("floor: real from real"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn one_point_is_drawn_and_none_is_not() {
        let one = [comparison("a", 1, 3.0)];
        let drawn = svg(&one).unwrap();
        assert!(!drawn.contains("NaN") && drawn.contains("<circle"), "{drawn}");
        let unmeasured = Comparison { distance: None, floor: None, ..comparison("a", 1, 3.0) };
        assert_eq!(svg(&[unmeasured]), None);
        assert_eq!(svg(&[]), None);
    }

    #[test]
    fn ticks_are_round_numbers_on_the_axis() {
        let axis = Axis::of([5.0, 50.0].into_iter(), 0.0, 1.0);
        assert_eq!(axis.ticks(), [5.0, 10.0, 20.0, 50.0]);
        let short = Axis::of([17.0, 24.0].into_iter(), 0.0, 1.0);
        assert_eq!(short.ticks(), [15.0, 20.0, 25.0]);
        assert!(axis.at(5.0) > 0.0 && axis.at(50.0) < 1.0 && axis.at(5.0) < axis.at(50.0));
    }
}
