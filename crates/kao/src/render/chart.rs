//! Curves over steps, as a picture: axes with round numbers, a legend, smooth lines.
//!
//! Unlike the other pictures these are not made of whole pixels: lines are drawn by tiny-skia. A
//! chart knows numbers and names, not what they measure.

use super::font;
use super::picture::Picture;
use crate::error::{Error, Result};
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Stroke, Transform,
};

/// Colours that differ for every kind of eye (Okabe & Ito 2008), in the order of the curves.
const COLOURS: [[u8; 3]; 7] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [70, 70, 70],
];
const PAPER: [u8; 3] = [255; 3];
const INK: [u8; 3] = [40; 3];
const PALE_INK: [u8; 3] = [110; 3];
const GRID: [u8; 3] = [230; 3];
/// The smallest side that leaves room for curves.
const MIN_SIDE: usize = 200;
/// Marks nearer to each other than so many times their radius hide the line.
const MARK_PITCH: f32 = 7.0;

/// Curves over one pair of axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// What the numbers below it count.
    pub x_label: String,
    /// How values are spread over its height.
    pub scale: Scale,
    /// The curves; a later one is drawn over an earlier one.
    pub curves: Vec<Curve>,
}

/// How values are spread over the height of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equal heights.
    Linear,
    /// Equal ratios are equal heights. Values of 0 and below are left out; where there are no
    /// others, the scale is linear.
    Log,
}

/// A curve: points (x, y) with growing x. Values that are not finite are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub style: Style,
}

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Many values that jump about: as they are in a thin pale line, and smoothed in a thick one.
    Noisy,
    /// Few values that each count: a line, with a mark at each as far as there is room.
    Marked,
}

/// Draws `charts` one below the other, each `width` × `height` pixels.
///
/// # Errors
/// When there is no chart, or it would be smaller than 200 × 200 pixels, or the picture gets too
/// large.
pub fn charts(charts: &[Chart], [width, height]: [usize; 2]) -> Result<Picture> {
    if width < MIN_SIDE || height < MIN_SIDE {
        let problem = format!("{width} × {height} pixels found; expected at least 200 × 200");
        return Err(Error::invalid("chart", problem));
    }
    let mut picture = Picture::new(width, height.saturating_mul(charts.len()), PAPER)?;
    for (n, chart) in charts.iter().enumerate() {
        Frame::new(chart, [width, height], n * height).draw(&mut picture)?;
    }
    Ok(picture)
}

/// A chart with its place in the picture.
struct Frame<'a> {
    chart: &'a Chart,
    /// Pixels of a letter's dot.
    dot: usize,
    /// The place within the axes.
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    x: Axis,
    y: Axis,
    /// Entries of the legend: index of the curve, and where its words begin.
    legend: Vec<(usize, [usize; 2])>,
}

impl<'a> Frame<'a> {
    fn new(chart: &'a Chart, [width, height]: [usize; 2], top: usize) -> Self {
        let dot = (width / 500).min(height / 250).max(1);
        let letter = font::HEIGHT * dot;
        let margin = 8 * dot;

        let bounds = Bounds::of(chart);
        let y = Axis::new(bounds.y, bounds.scale, height / (3 * letter).max(1));
        let label_width = y.ticks.iter().map(|tick| font::width(&y.label(*tick))).max();
        let left = margin + label_width.unwrap_or(0) * dot + 4 * dot;
        let inner_width = width.saturating_sub(left + 2 * margin).max(1);
        let x = Axis::new(bounds.x, Scale::Linear, inner_width / (7 * letter).max(1));

        let mut legend = Vec::new();
        let mut at = [left, top + margin + 2 * letter];
        for (n, curve) in chart.curves.iter().enumerate() {
            let needed = swatch(dot) + font::width(&curve.name) * dot;
            if at[0] > left && at[0] + needed + margin > width {
                at = [left, at[1] + 3 * letter / 2];
            }
            legend.push((n, at));
            at[0] += needed + 3 * letter;
        }
        let inner_top = at[1] + 2 * letter;
        let inner_bottom = top + height - margin - 5 * letter / 2 - 4 * dot;
        Frame {
            chart,
            dot,
            left,
            top: inner_top,
            width: inner_width,
            // A legend that leaves no room leaves a pixel.
            height: inner_bottom.saturating_sub(inner_top).max(1),
            x,
            y,
            legend,
        }
    }

    fn draw(&self, picture: &mut Picture) -> Result<()> {
        let Frame { chart, dot, .. } = *self;
        let letter = font::HEIGHT * dot;
        let mut area = Area::new(self.width, self.height)?;
        for &tick in &self.y.ticks {
            area.horizontal(self.y_of(tick));
        }
        for &tick in &self.x.ticks {
            area.vertical(self.x_of(tick));
        }
        for (n, curve) in chart.curves.iter().enumerate() {
            self.curve(&mut area, curve, COLOURS[n % COLOURS.len()]);
        }
        area.copy_to(picture, [self.left, self.top]);

        // Drawn twice, a dot apart: bold.
        let title_top = self.title_top();
        for shift in [0, dot.div_ceil(2)] {
            font::draw(picture, &chart.title, [self.left + shift, title_top], dot, INK);
        }
        for &(n, [x, y]) in &self.legend {
            let colour = COLOURS[n % COLOURS.len()];
            picture.fill([x, y + 3 * dot], [8 * dot, 2 * dot], colour);
            font::draw(picture, &chart.curves[n].name, [x + swatch(dot), y], dot, INK);
        }

        let (end, below) = (self.left + self.width, self.top + self.height);
        picture.fill([self.left - dot, self.top], [dot, self.height + dot], PALE_INK);
        picture.fill([self.left - dot, below], [self.width + dot, dot], PALE_INK);
        for &tick in &self.y.ticks {
            let label = self.y.label(tick);
            let x = self.left.saturating_sub(4 * dot + font::width(&label) * dot);
            let middle = self.top + self.y_of(tick).round().max(0.0) as usize;
            font::draw(picture, &label, [x, middle.saturating_sub(letter / 2)], dot, PALE_INK);
        }
        let label_top = below + 5 * dot;
        for &tick in &self.x.ticks {
            let label = self.x.label(tick);
            let middle = self.left + self.x_of(tick).round().max(0.0) as usize;
            let x = middle.saturating_sub(font::width(&label) * dot / 2);
            font::draw(picture, &label, [x, label_top], dot, PALE_INK);
        }
        let name_left = end.saturating_sub(font::width(&chart.x_label) * dot);
        font::draw(picture, &chart.x_label, [name_left, label_top + 3 * letter / 2], dot, PALE_INK);
        if self.x.ticks.is_empty() {
            let words = "nothing yet";
            let x = self.left + (self.width.saturating_sub(font::width(words) * dot)) / 2;
            font::draw(picture, words, [x, self.top + self.height / 2], dot, PALE_INK);
        }
        Ok(())
    }

    fn title_top(&self) -> usize {
        let letter = font::HEIGHT * self.dot;
        self.legend.first().map_or(self.top, |(_, [_, y])| *y).saturating_sub(2 * letter)
    }

    fn x_of(&self, x: f64) -> f32 {
        (self.x.share(x) * (self.width - 1) as f64) as f32
    }

    /// From the upper edge of the area.
    fn y_of(&self, y: f64) -> f32 {
        ((1.0 - self.y.share(y)) * (self.height - 1) as f64) as f32
    }

    fn curve(&self, area: &mut Area, curve: &Curve, colour: [u8; 3]) {
        let dot = self.dot as f32;
        let shown: Vec<(f64, f64)> =
            curve.points.iter().copied().filter(|point| self.y.shows(*point)).collect();
        let placed = |points: &[(f64, f64)]| -> Vec<[f32; 2]> {
            points.iter().map(|&(x, y)| [self.x_of(x), self.y_of(y)]).collect()
        };
        match curve.style {
            Style::Noisy => {
                // Many lines make a band, on which the smoothed one must show.
                let opacity = if shown.len() > self.width / 4 { 0.3 } else { 0.5 };
                area.line(&placed(&shown), 0.5 * dot, colour, opacity);
                area.line(&placed(&smoothed(&shown)), 1.25 * dot, colour, 1.0);
            }
            Style::Marked => {
                let places = placed(&shown);
                area.line(&places, 1.25 * dot, colour, 1.0);
                let radius = 1.75 * dot;
                let span = places.last().map_or(0.0, |last| last[0] - places[0][0]);
                if span >= MARK_PITCH * radius * (places.len().saturating_sub(1)) as f32 {
                    places.iter().for_each(|place| area.mark(*place, radius, colour));
                }
            }
        }
    }
}

/// Pixels from the beginning of an entry of the legend to its words.
fn swatch(dot: usize) -> usize {
    12 * dot
}

/// A running mean with weights that fall off on both sides. At the beginning, where curves are steep, it is as narrow as what lies before.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = (points.len() / 32).max(2);
    let mean = |n: usize| {
        let reach = reach.min(n);
        let (mut sum, mut weights) = (0.0, 0.0);
        for (k, point) in points.iter().enumerate().take(n + reach + 1).skip(n - reach) {
            let share = k.abs_diff(n) as f64 / (reach + 1) as f64;
            let weight = (1.0 - share * share).powi(2);
            sum += weight * point.1;
            weights += weight;
        }
        (points[n].0, sum / weights)
    };
    (0..points.len()).map(mean).collect()
}

/// What the axes of a chart must hold.
struct Bounds {
    x: Option<[f64; 2]>,
    y: Option<[f64; 2]>,
    scale: Scale,
}

impl Bounds {
    fn of(chart: &Chart) -> Self {
        let points = || chart.curves.iter().flat_map(|curve| &curve.points);
        let is_positive = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite() && *y > 0.0;
        let scale = match chart.scale {
            Scale::Log if points().any(|point| is_positive(&point)) => Scale::Log,
            _ => Scale::Linear,
        };
        let mut x = Range::default();
        let mut y = Range::default();
        for curve in &chart.curves {
            let shown: Vec<(f64, f64)> =
                curve.points.iter().copied().filter(|point| shows(scale, *point)).collect();
            shown.iter().for_each(|point| x.add(point.0));
            match curve.style {
                Style::Marked => shown.iter().for_each(|point| y.add(point.1)),
                // Few values that jump far do not press the others flat.
                Style::Noisy => {
                    let mut values: Vec<f64> = shown.iter().map(|point| point.1).collect();
                    values.sort_by(f64::total_cmp);
                    let out = values.len() / 200;
                    for value in &values[out..values.len() - out] {
                        y.add(*value);
                    }
                    smoothed(&shown).iter().for_each(|point| y.add(point.1));
                }
            }
        }
        Bounds { x: x.0, y: y.0, scale }
    }
}

fn shows(scale: Scale, (x, y): (f64, f64)) -> bool {
    x.is_finite() && y.is_finite() && (scale == Scale::Linear || y > 0.0)
}

#[derive(Default)]
struct Range(Option<[f64; 2]>);

impl Range {
    fn add(&mut self, value: f64) {
        let [low, high] = self.0.unwrap_or([value; 2]);
        self.0 = Some([low.min(value), high.max(value)]);
    }
}

/// An axis: what it spans, and where its numbers stand.
struct Axis {
    scale: Scale,
    /// Both ends, on the scale.
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// An axis that holds `ends`, with about `n_ticks` numbers at most; one without numbers where
    /// there is nothing to hold.
    fn new(ends: Option<[f64; 2]>, scale: Scale, n_ticks: usize) -> Self {
        let Some([low, high]) = ends else {
            return Axis { scale: Scale::Linear, low: 0.0, high: 1.0, ticks: Vec::new() };
        };
        let n_ticks = n_ticks.clamp(2, 12);
        let on_scale = |value: f64| if scale == Scale::Log { value.log10() } else { value };
        let (mut low, mut high) = (on_scale(low), on_scale(high));
        // Halves, lest the difference overflow.
        if high / 2.0 - low / 2.0 <= (low.abs().max(high.abs()) * 1e-9).max(1e-300) {
            let around = if scale == Scale::Log { 0.1 } else { (low.abs() * 0.1).max(0.5) };
            (low, high) = (low - around, high + around);
        }
        let pad = 0.04 * (high / 2.0 - low / 2.0);
        (low, high) = ((low - pad).max(f64::MIN / 4.0), (high + pad).min(f64::MAX / 4.0));
        let ticks = match scale {
            Scale::Linear => linear_ticks(low, high, n_ticks),
            Scale::Log => log_ticks(low, high, n_ticks),
        };
        Axis { scale, low, high, ticks }
    }

    /// Where `value` lies between the ends: 0 to 1, or beyond.
    fn share(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Log { value.log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(-10.0, 10.0)
    }

    fn shows(&self, point: (f64, f64)) -> bool {
        shows(self.scale, point)
    }

    /// A number in few letters: `0.05`, `250`, `20k`, `1e-5`.
    fn label(&self, value: f64) -> String {
        let size = value.abs();
        if size != 0.0 && !(1e-3..1e9).contains(&size) {
            return format!("{}", Scientific(value));
        }
        // Six digits are more than there are between two ticks, and hide what rounding left.
        let rounded = |value: f64| -> f64 { format!("{value:.5e}").parse().unwrap_or(value) };
        match size {
            1e6.. => format!("{}M", rounded(value / 1e6)),
            1e4.. => format!("{}k", rounded(value / 1e3)),
            _ => format!("{}", rounded(value)),
        }
    }
}

/// `1e-5`, `2.5e12`.
struct Scientific(f64);

impl std::fmt::Display for Scientific {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.3e}", self.0);
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        write!(f, "{digits}e{exponent}")
    }
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn linear_ticks(low: f64, high: f64, n_most: usize) -> Vec<f64> {
    let least = (high / n_most as f64 - low / n_most as f64).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= least);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).ceil();
    let ticks = (0..=n_most).map(|n| (first + n as f64) * step);
    ticks.filter(|tick| tick.is_finite() && (low..=high).contains(tick)).collect()
}

/// Powers of ten, with numbers between them as far as there is room. `low` and `high` are
/// logarithms.
fn log_ticks(low: f64, high: f64, n_most: usize) -> Vec<f64> {
    let decades = low.floor() as i64..=high.ceil() as i64;
    let of = |mantissas: &[f64], every: usize| -> Vec<f64> {
        let powers = decades.clone().step_by(every).map(|decade| 10f64.powi(decade as i32));
        let all = powers.flat_map(|power| mantissas.iter().map(move |mantissa| mantissa * power));
        all.filter(|tick| tick.is_normal() && (low..=high).contains(&tick.log10())).collect()
    };
    let dense: [&[f64]; 3] =
        [&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &[1.0, 2.0, 5.0], &[1.0]];
    for mantissas in dense {
        let ticks = of(mantissas, 1);
        if (3..=n_most).contains(&ticks.len()) {
            return ticks;
        }
    }
    match of(dense[0], 1).len() {
        // Less than half a decade: as good as linear.
        0..3 => linear_ticks(10f64.powf(low), 10f64.powf(high), n_most),
        _ if of(&[1.0], 1).len() < 3 => of(&[1.0, 3.0], 1),
        _ => of(&[1.0], decades.clone().count().div_ceil(n_most)),
    }
}

/// What lies within the axes.
struct Area {
    pixmap: Pixmap,
}

impl Area {
    fn new(width: usize, height: usize) -> Result<Self> {
        let pixmap = u32::try_from(width).ok().zip(u32::try_from(height).ok());
        let pixmap = pixmap.and_then(|(width, height)| Pixmap::new(width, height));
        let mut pixmap = pixmap.ok_or_else(|| {
            Error::invalid("chart", format!("{width} × {height} pixels are too many to draw"))
        })?;
        pixmap.fill(colour_of(PAPER, 1.0));
        Ok(Area { pixmap })
    }

    fn horizontal(&mut self, y: f32) {
        let (width, y) = (self.pixmap.width() as f32, y.round() + 0.5);
        self.line(&[[0.0, y], [width, y]], 1.0, GRID, 1.0);
    }

    fn vertical(&mut self, x: f32) {
        let (height, x) = (self.pixmap.height() as f32, x.round() + 0.5);
        self.line(&[[x, 0.0], [x, height]], 1.0, GRID, 1.0);
    }

    fn line(&mut self, places: &[[f32; 2]], width: f32, colour: [u8; 3], opacity: f32) {
        let mut builder = PathBuilder::new();
        for (n, [x, y]) in places.iter().enumerate() {
            if n == 0 { builder.move_to(*x, *y) } else { builder.line_to(*x, *y) }
        }
        // A single point has no line; its mark shows it.
        let Some(path) = builder.finish() else { return };
        let stroke = Stroke {
            width,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        let paint = paint(colour, opacity);
        self.pixmap.stroke_path(&path, &paint, &stroke, Transform::identity(), None);
    }

    /// A disc with a rim of paper, which sets it apart from lines.
    fn mark(&mut self, [x, y]: [f32; 2], radius: f32, colour: [u8; 3]) {
        for (radius, colour) in [(1.4 * radius, PAPER), (radius, colour)] {
            if let Some(path) = PathBuilder::from_circle(x, y, radius) {
                let paint = paint(colour, 1.0);
                let identity = Transform::identity();
                self.pixmap.fill_path(&path, &paint, FillRule::Winding, identity, None);
            }
        }
    }

    fn copy_to(&self, picture: &mut Picture, [left, top]: [usize; 2]) {
        let width = self.pixmap.width() as usize;
        for (n, pixel) in self.pixmap.pixels().iter().enumerate() {
            // Opaque, since the paper is.
            let rgb = [pixel.red(), pixel.green(), pixel.blue()];
            picture.fill([left + n % width, top + n / width], [1, 1], rgb);
        }
    }
}

fn paint(colour: [u8; 3], opacity: f32) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color(colour_of(colour, opacity));
    paint
}

fn colour_of([red, green, blue]: [u8; 3], opacity: f32) -> Color {
    Color::from_rgba8(red, green, blue, (opacity * 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chart(scale: Scale, style: Style, points: Vec<(f64, f64)>) -> Chart {
        let curve = Curve { name: "curve".to_owned(), points, style };
        Chart { title: "title".to_owned(), x_label: "steps".to_owned(), scale, curves: vec![curve] }
    }

    fn count(picture: &Picture, colour: [u8; 3]) -> usize {
        picture.rgb().as_chunks().0.iter().filter(|pixel: &&[u8; 3]| **pixel == colour).count()
    }

    #[test]
    fn numbers_on_axes_are_round() {
        let ticks = |low, high, scale| {
            let axis = Axis::new(Some([low, high]), scale, 8);
            axis.ticks.iter().map(|tick| axis.label(*tick)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ticks(0.0, 400.0, Scale::Linear), "0 100 200 300 400");
        assert_eq!(ticks(0.0, 1e7, Scale::Linear), "0 2M 4M 6M 8M 10M");
        assert_eq!(ticks(-0.3, 0.25, Scale::Linear), "-0.3 -0.2 -0.1 0 0.1 0.2");
        assert_eq!(ticks(0.0, 90_000.0, Scale::Linear), "0 20k 40k 60k 80k");
        assert_eq!(ticks(0.02, 0.6, Scale::Log), "0.02 0.05 0.1 0.2 0.5");
        assert_eq!(ticks(0.2, 0.7, Scale::Log), "0.2 0.3 0.4 0.5 0.6 0.7");
        assert_eq!(ticks(0.101, 0.109, Scale::Log), "0.102 0.104 0.106 0.108");
        assert_eq!(ticks(1e-6, 1.0, Scale::Log), "1e-6 1e-5 1e-4 0.001 0.01 0.1 1");
        // One value alone has room around it.
        assert_eq!(ticks(5.0, 5.0, Scale::Linear), "4.6 4.8 5 5.2 5.4");
    }

    #[test]
    fn a_curve_goes_where_its_points_are() {
        let points = vec![(0.0, 1.0), (50.0, f64::NAN), (100.0, 1.0), (100.0, -1.0)];
        let picture = charts(&[chart(Scale::Log, Style::Marked, points)], [500, 250]).unwrap();
        let line = COLOURS[0];
        // Besides the legend's, all of it at one height, from the left end to the right.
        let row = |y: usize| (0..500).filter(|&x| picture.pixel(x, y) == Some(line)).count();
        let y = (60..250).max_by_key(|&y| row(y)).unwrap();
        assert!(row(y) > 400, "{} pixels at {y}", row(y));
        assert_eq!((row(y - 20), row(y + 20)), (0, 0));
        assert!(count(&picture, INK) > 20 && count(&picture, PALE_INK) > 500);
    }

    #[test]
    fn noise_is_smoothed_and_ends_stay() {
        let noisy: Vec<(f64, f64)> =
            (0..200).map(|n| (f64::from(n), 5.0 + f64::from(n % 2))).collect();
        let smooth = smoothed(&noisy);
        assert_eq!(smooth[0], noisy[0]);
        assert!(smooth[20..].iter().all(|point| (point.1 - 5.5).abs() < 0.1));
        assert!(smooth.iter().zip(&noisy).all(|(a, b)| a.0 == b.0));
        assert_eq!(smoothed(&[]), []);
    }

    #[test]
    fn few_values_that_jump_far_do_not_press_the_others_flat() {
        let mut points: Vec<(f64, f64)> = (0..1000).map(|n| (f64::from(n), 1.0)).collect();
        points[500].1 = 1e9;
        points[0].1 = 2.0;
        let bounds = Bounds::of(&chart(Scale::Linear, Style::Noisy, points.clone()));
        assert!(bounds.y.unwrap()[1] < 1e9);
        let bounds = Bounds::of(&chart(Scale::Linear, Style::Marked, points));
        assert_eq!(bounds.y, Some([1.0, 1e9]));
    }

    #[test]
    fn charts_stand_one_below_the_other_and_may_be_empty() {
        let full = chart(Scale::Linear, Style::Noisy, vec![(0.0, 1.0), (1.0, 2.0)]);
        let negative = chart(Scale::Log, Style::Noisy, vec![(0.0, -1.0), (1.0, -2.0)]);
        let empty = chart(Scale::Log, Style::Marked, vec![]);
        let picture = charts(&[full.clone(), negative, empty], [400, 200]).unwrap();
        assert_eq!((picture.width(), picture.height()), (400, 600));
        assert!(charts(std::slice::from_ref(&full), [199, 400]).is_err());
        assert!(charts(&[full], [400, 199]).is_err());
        assert!(charts(&[], [400, 400]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

        #[test]
        fn any_values_can_be_drawn(
            points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..20),
            is_log in any::<bool>(),
            is_noisy in any::<bool>(),
            name in ".{0,100}",
        ) {
            let scale = if is_log { Scale::Log } else { Scale::Linear };
            let style = if is_noisy { Style::Noisy } else { Style::Marked };
            let mut chart = chart(scale, style, points);
            chart.curves[0].name = name;
            for _ in 0..3 {
                chart.curves.push(chart.curves[0].clone());
            }
            charts(&[chart], [220, 210]).unwrap();
        }

        #[test]
        fn ticks_lie_on_the_axis(
            low in prop::num::f64::NORMAL, high in prop::num::f64::NORMAL, n in 1..15usize,
        ) {
            let ends = Some([low.min(high), low.max(high)]);
            let axis = Axis::new(ends, Scale::Linear, n);
            prop_assert!((1..=n.max(2) + 1).contains(&axis.ticks.len()), "{:?}", axis.ticks);
            let ends = Some([low.abs().min(high.abs()), low.abs().max(high.abs())]);
            let axis = Axis::new(ends, Scale::Log, n);
            prop_assert!((1..=20).contains(&axis.ticks.len()), "{:?}", axis.ticks);
            for &tick in &axis.ticks {
                prop_assert!((0.0..=1.0).contains(&axis.share(tick)));
            }
        }
    }
}
