//! The page of a comparison: one file, with the pictures in it, that opens from disk.

use super::tables::Comparison;
use super::{Compare, SHOWN};
use crate::error::Result;
use crate::files::read_regular;
use crate::render::base64;
use crate::requests::series::escape;
use std::fmt::Write as _;

/// The largest picture that is put into the page.
const MAX_PICTURE_BYTES: u64 = 64 << 20;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;margin:2rem;background:#fff;color:#222}\
h1{margin-bottom:0}h2{margin-top:2.5rem}\
p,svg{max-width:60rem}svg{width:100%;height:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #8884}\
td:first-child,th:first-child{text-align:left}.best{background:#2fa36b33;font-weight:600}\
.scroll{overflow-x:auto}.sets td,.sets th{vertical-align:top;text-align:left;border:0;padding:.4rem}\
.sets th{font-weight:600}figure{margin:0}figcaption{font-size:.8rem;line-height:1.3}\
img{image-rendering:pixelated;display:block;min-width:11rem;max-width:100%}\
code{overflow-wrap:anywhere}\
@media(prefers-color-scheme:dark){body{background:#16161a;color:#e8e8ea}a{color:#9cf}}";

/// The page. The first images of each combination are read from its pictures.
pub(super) fn html(
    compare: &Compare,
    command: Option<&str>,
    comparisons: &[Comparison],
    chart: Option<&str>,
) -> Result<String> {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Kao: samplers compared</title>\n<style>{STYLE}</style>\n\
         <h1>Samplers compared</h1>\n\
         <p>{} images of seed {} for each combination, model <code>{}</code>. All start from the \
         same noise. An image costs as much as the network is evaluated for it.</p>\n",
        compare.count,
        compare.seed,
        escape(&compare.model.name()),
    );
    if let Some(command) = command {
        let _ = writeln!(html, "<p><code>{}</code></p>", escape(command));
    }
    if let Some(chart) = chart {
        let _ = writeln!(
            html,
            "<h2>Distance over cost</h2>\n<p>Sliced Wasserstein distance of the images from real \
             pictures, times 1000, mean over all resolutions (Karras et al. 2018). The floor is the \
             distance of two sets of real pictures from each other, each as large.</p>\n{chart}"
        );
    }
    table(&mut html, comparisons);
    pictures(&mut html, compare, comparisons)?;
    html.push_str("</html>\n");
    Ok(html)
}

/// One row for each combination.
fn table(html: &mut String, comparisons: &[Comparison]) {
    let is_measured = comparisons.iter().any(|of| of.distance.is_some());
    html.push_str(
        "<h2>Numbers</h2>\n<div class=\"scroll\"><table>\n<tr><th>sampler</th><th>steps</th>\
         <th>evaluations</th><th>ms per image</th>",
    );
    if is_measured {
        html.push_str("<th>distance</th><th>times the floor</th>");
    }
    html.push_str("</tr>\n");
    for of in comparisons {
        // Writing to a string cannot fail.
        let _ = write!(
            html,
            "<tr><td><a href=\"#{}\">{}</a></td><td>{}</td><td>{}</td><td>{:.1}</td>",
            of.name,
            escape(&of.method()),
            of.steps,
            of.evaluations,
            1000.0 * of.seconds_per_image
        );
        if let (Some(distance), Some(ratio)) = (of.distance, of.ratio()) {
            let class = if is_best(of, comparisons) { " class=\"best\"" } else { "" };
            let _ = write!(html, "<td>{distance:.2}</td><td{class}>{ratio:.2}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
    if is_measured {
        html.push_str("<p>Marked: none that costs as much or less comes nearer.</p>\n");
    }
    html.push_str(
        "<p>The same as <a href=\"compare.csv\">CSV</a> and <a href=\"compare.json\">JSON</a>.</p>\n",
    );
}

/// Whether no combination that costs as much or less comes nearer to real pictures.
fn is_best(one: &Comparison, comparisons: &[Comparison]) -> bool {
    let distance = |of: &Comparison| of.distance.unwrap_or(f64::INFINITY);
    comparisons.iter().all(|of| of.evaluations > one.evaluations || distance(of) >= distance(one))
}

/// A row for each cost, a column for each method.
fn pictures(html: &mut String, compare: &Compare, comparisons: &[Comparison]) -> Result<()> {
    let by_steps = compare.evaluations.is_empty();
    let cost = |of: &Comparison| if by_steps { of.steps } else { asked(compare, of) };
    let mut methods: Vec<String> = Vec::new();
    let mut costs: Vec<usize> = Vec::new();
    for of in comparisons {
        if !methods.contains(&of.method()) {
            methods.push(of.method());
        }
        if !costs.contains(&cost(of)) {
            costs.push(cost(of));
        }
    }
    costs.sort_unstable();
    let n_shown = SHOWN[0].min(compare.count);
    let _ = write!(
        html,
        "<h2>Images</h2>\n<p>The first {n_shown} of each; a click opens all {}.</p>\n\
         <div class=\"scroll\"><table class=\"sets\">\n<tr><th></th>",
        compare.count
    );
    for method in &methods {
        let _ = write!(html, "<th>{}</th>", escape(method));
    }
    html.push_str("</tr>\n");
    let unit = if by_steps { "steps" } else { "evaluations" };
    for n in costs {
        let _ = write!(html, "<tr><th>{n} {unit}</th>");
        for method in &methods {
            html.push_str("<td>");
            let is_it = |of: &&Comparison| cost(of) == n && of.method() == *method;
            if let Some(of) = comparisons.iter().find(is_it) {
                figure(html, compare, of)?;
            }
            html.push_str("</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
    Ok(())
}

/// The least number of evaluations that was asked for and covers what the combination costs.
fn asked(compare: &Compare, of: &Comparison) -> usize {
    let covers = compare.evaluations.iter().filter(|n| **n >= of.evaluations);
    covers.min().copied().unwrap_or(of.evaluations)
}

fn figure(html: &mut String, compare: &Compare, of: &Comparison) -> Result<()> {
    let name = &of.name;
    let path = compare.out.join(format!("first-{name}.png"));
    let picture = base64(&read_regular(&path, MAX_PICTURE_BYTES)?);
    let ratio = of.ratio().map_or_else(String::new, |ratio| format!(", {ratio:.2} × the floor"));
    let _ = write!(
        html,
        "<figure id=\"{name}\"><a href=\"grid-{name}.png\">\
         <img src=\"data:image/png;base64,{picture}\" alt=\"the first images of {name}\"></a>\
         <figcaption>{} steps, {} evaluations, {:.1} ms{ratio}</figcaption></figure>",
        of.steps,
        of.evaluations,
        1000.0 * of.seconds_per_image
    );
    Ok(())
}
