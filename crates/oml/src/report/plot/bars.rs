//! A measure of utility: a bar for the base, a bar for the fingerprinted model, each with its standard error.

use std::fmt::Write as _;

use super::super::data::{Measured, Utility};
use super::{Axis, open};

const WIDTH: f64 = 340.0;
const LEFT: f64 = 0.0;
/// Room on the right for the value.
const RIGHT: f64 = WIDTH - 138.0;
const ROW: f64 = 46.0;
const THICK: f64 = 20.0;

/// Bars from zero on one scale.
pub(in super::super) fn bars(utility: &Utility) -> String {
    let rows: Vec<(&str, &str, Measured)> = utility
        .base
        .map(|base| ("base", "before", base))
        .into_iter()
        .chain([("fingerprinted", "after", utility.fingerprinted)])
        .collect();
    let high = rows
        .iter()
        .map(|row| row.2.value + row.2.standard_error.unwrap_or(0.0))
        .fold(0.0, f64::max);
    let x = Axis::linear(0.0, high, (LEFT, RIGHT));
    let mut svg = open(WIDTH, ROW * rows.len() as f64, &utility.name);
    for (i, (name, class, measured)) in rows.iter().enumerate() {
        let top = ROW * i as f64 + 18.0;
        let middle = top + 0.5 * THICK;
        let value = measured.value;
        let (mut whisker, mut spread) = (String::new(), String::new());
        if let Some(error) = measured.standard_error {
            whisker = format!(
                "<path class=\"whisker\" d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {a:.1}V{b:.1}M{high:.1} {a:.1}V{b:.1}\"/>",
                low = x.at(value - error),
                high = x.at(value + error),
                a = middle - 5.0,
                b = middle + 5.0,
            );
            let error = utility.unit.text(error);
            spread = format!("<tspan class=\"error\" dx=\"5\">± {error}</tspan>");
        }
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{LEFT}\" y=\"{:.1}\">{name}</text>\
             <rect class=\"bar {class}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{THICK}\" rx=\"3\"/>\
             {whisker}<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}{spread}</text>",
            top - 5.0,
            x.at(value).max(1.0),
            x.at(value + measured.standard_error.unwrap_or(0.0)) + 9.0,
            middle + 5.0,
            utility.unit.text(value),
        );
    }
    svg.push_str("</svg>");
    svg
}
