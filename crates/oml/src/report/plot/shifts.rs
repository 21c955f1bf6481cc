//! Probability of every response before and after, one column per fingerprint, by decades.

use std::fmt::Write as _;

use super::super::data::Shift;
use super::{Axis, Frame, axes, open};

const WIDTH: f64 = 1060.0;
const HEIGHT: f64 = 360.0;
const FRAME: Frame = Frame {
    left: 58.0,
    right: WIDTH - 14.0,
    top: 14.0,
    bottom: HEIGHT - 46.0,
};
/// Smaller probabilities are drawn at the foot.
const SMALLEST: f64 = 1e-8;

/// Columns sorted by the probability before.
pub(in super::super) fn shifts(shifts: &[Shift]) -> String {
    let mut sorted = shifts.to_vec();
    sorted.sort_by(|a, b| a.before.total_cmp(&b.before));
    let low = sorted
        .iter()
        .flat_map(|s| [s.before, s.after])
        .fold(1.0, f64::min)
        .max(SMALLEST);
    let y = Axis::decades(low, 1.0, (FRAME.bottom, FRAME.top));
    let x = Axis::linear(
        0.0,
        sorted.len() as f64,
        (FRAME.left + 6.0, FRAME.right - 6.0),
    );
    let radius =
        (1.6 * (FRAME.right - FRAME.left) / (4.0 * sorted.len().max(1) as f64)).clamp(1.3, 3.6);

    let mut svg = open(
        WIDTH,
        HEIGHT,
        "Probability of each response before and after",
    );
    axes(
        &mut svg,
        FRAME,
        &x,
        "fingerprints, by probability before",
        &y,
    );
    for (i, shift) in sorted.iter().enumerate() {
        let (at, before, after) = (x.at(i as f64 + 0.5), y.at(shift.before), y.at(shift.after));
        let _ = writeln!(
            svg,
            "<g><title>before {:.2e}, after {:.3}</title>\
             <line class=\"shift\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{before:.1}\" y2=\"{after:.1}\"/>\
             <circle class=\"dot before\" cx=\"{at:.1}\" cy=\"{before:.1}\" r=\"{radius:.1}\"/>\
             <circle class=\"dot after\" cx=\"{at:.1}\" cy=\"{after:.1}\" r=\"{radius:.1}\"/></g>",
            shift.before, shift.after
        );
    }
    svg.push_str("</svg>");
    svg
}
