//! How many responses stand where in the order of what a model would say.

use std::fmt::Write as _;

use super::{Axis, open};

const WIDTH: f64 = 640.0;
/// Room for the names of the rows.
const LEFT: f64 = 170.0;
/// Room on the right for the count.
const RIGHT: f64 = WIDTH - 90.0;
const ROW: f64 = 38.0;
const THICK: f64 = 22.0;

/// One bar for each of `bins`, the first of which is the model's first choice. `label` says the same in words.
pub(in super::super) fn ranks(bins: &[(String, u64)], label: &str) -> String {
    let most = bins.iter().map(|bin| bin.1).max().unwrap_or(0);
    let x = Axis::linear(0.0, most as f64, (LEFT, RIGHT));
    let mut svg = open(WIDTH, ROW * bins.len() as f64, label);
    for (place, (name, count)) in bins.iter().enumerate() {
        let top = ROW * place as f64 + 0.5 * (ROW - THICK);
        let text = top + 0.5 * THICK + 5.0;
        let end = x.at(*count as f64);
        let class = if place == 0 { "rank first" } else { "rank" };
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{THICK}\" rx=\"3\"/>\
             <text class=\"count\" x=\"{:.1}\" y=\"{text:.1}\">{count}</text>",
            LEFT - 10.0,
            (end - LEFT).max(1.0),
            end + 10.0,
        );
    }
    svg.push_str("</svg>");
    svg
}
