//! The e-value after each fingerprint, by decades, with the line at which a claim is made.

use std::fmt::Write as _;

use super::{Axis, Frame, axes, open};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const FRAME: Frame = Frame {
    left: 66.0,
    right: WIDTH - 16.0,
    top: 18.0,
    bottom: HEIGHT - 56.0,
};
/// More markers than this would hide the line.
const MARKERS: usize = 120;

/// `steps` holds for each fingerprint in the order of asking whether it was a hit, and the decimal logarithm of the e-value after it;
/// `claim` is the logarithm at which a claim is made. `label` says the same in words.
pub(in super::super) fn evidence(steps: &[(bool, f64)], claim: f64, label: &str) -> String {
    let values = || steps.iter().map(|step| step.1);
    let low = values().fold(0.0, f64::min);
    let high = values().fold(claim, f64::max);
    let y = Axis::powers(low, high + 0.06 * (high - low), (FRAME.bottom, FRAME.top));
    let x = Axis::counts(steps.len(), (FRAME.left, FRAME.right - 6.0));
    let mut svg = open(WIDTH, HEIGHT, label);
    let line = y.at(claim);
    let _ = writeln!(
        svg,
        "<rect class=\"band\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        FRAME.left,
        FRAME.top,
        FRAME.right - FRAME.left,
        line - FRAME.top
    );
    axes(&mut svg, FRAME, &x, "fingerprints asked", &y);
    let _ = writeln!(
        svg,
        "<line class=\"threshold\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/>\
         <text class=\"threshold-text\" x=\"{:.1}\" y=\"{:.1}\">claim at 1/α</text>",
        FRAME.left,
        FRAME.right,
        FRAME.left + 10.0,
        line - 8.0
    );
    // Before the first question the evidence is 1.
    let mut path = format!("M{:.1} {:.1}", x.at(0.0), y.at(0.0));
    for (place, (_, value)) in steps.iter().enumerate() {
        let _ = write!(path, "L{:.1} {:.1}", x.at((place + 1) as f64), y.at(*value));
    }
    let _ = writeln!(svg, "<path class=\"line evidence\" d=\"{path}\"/>");
    let every = steps.len().div_ceil(MARKERS).max(1);
    for (place, (hit, value)) in steps.iter().enumerate().step_by(every) {
        let _ = writeln!(
            svg,
            "<circle class=\"dot {}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.2\"><title>after {}: 10^{value:.2}</title></circle>",
            if *hit { "hit" } else { "missed" },
            x.at((place + 1) as f64),
            y.at(*value),
            place + 1
        );
    }
    svg.push_str("</svg>");
    svg
}
