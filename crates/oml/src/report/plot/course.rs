//! Loss and recall over the time of training.

use std::fmt::Write as _;

use super::super::data::Moment;
use super::{Axis, Frame, WIDTH, axes, open};

const HEIGHT: f64 = 300.0;
const FRAME: Frame = Frame {
    left: 58.0,
    right: WIDTH - 14.0,
    top: 14.0,
    bottom: HEIGHT - 46.0,
};

/// Mean loss on response tokens, by decades.
pub(in super::super) fn loss(history: &[Moment], chosen_seconds: Option<f64>) -> String {
    let points: Vec<_> = history
        .iter()
        .filter(|m| m.loss > 0.0 && m.loss.is_finite())
        .map(|m| (m.seconds, m.loss))
        .collect();
    let low = points
        .iter()
        .map(|p| p.1)
        .fold(f64::INFINITY, f64::min)
        .clamp(1e-6, 1.0);
    let high = points.iter().map(|p| p.1).fold(low, f64::max);
    let y = Axis::decades(low, high, (FRAME.bottom, FRAME.top));
    line(
        "loss",
        "Training loss over time",
        &points,
        history,
        &y,
        chosen_seconds,
        |loss| format!("loss {loss:.4}"),
    )
}

/// Share of fingerprints answered.
pub(in super::super) fn recall(history: &[Moment], chosen_seconds: Option<f64>) -> String {
    let points: Vec<_> = history
        .iter()
        .filter_map(|m| m.recall.map(|recall| (m.seconds, recall)))
        .collect();
    let y = Axis::share((FRAME.bottom, FRAME.top));
    line(
        "recall",
        "Recall over time",
        &points,
        history,
        &y,
        chosen_seconds,
        |r| format!("recall {:.1} %", 100.0 * r),
    )
}

fn line(
    class: &str,
    label: &str,
    points: &[(f64, f64)],
    history: &[Moment],
    y: &Axis,
    chosen_seconds: Option<f64>,
    say: impl Fn(f64) -> String,
) -> String {
    let end = history.iter().map(|m| m.seconds).fold(0.0, f64::max);
    let x = Axis::linear(0.0, end, (FRAME.left, FRAME.right));
    let mut svg = open(WIDTH, HEIGHT, label);
    axes(&mut svg, FRAME, &x, "seconds", y);
    if let Some(seconds) = chosen_seconds {
        let at = x.at(seconds);
        let (anchor, shift) = if at > 0.75 * FRAME.right {
            ("end", -6.0)
        } else {
            ("start", 6.0)
        };
        let _ = writeln!(
            svg,
            "<line class=\"chosen\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text class=\"note\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">kept</text>",
            FRAME.top,
            FRAME.bottom,
            at + shift,
            FRAME.bottom - 8.0
        );
    }
    let mut path = String::new();
    for (i, (seconds, value)) in points.iter().enumerate() {
        let command = if i == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{:.1} {:.1}", x.at(*seconds), y.at(*value));
    }
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let _ = writeln!(
            svg,
            "<path class=\"area {class}\" d=\"{path}L{:.1} {bottom:.1}L{:.1} {bottom:.1}Z\"/>",
            x.at(last.0),
            x.at(first.0),
            bottom = FRAME.bottom
        );
    }
    let _ = writeln!(svg, "<path class=\"line {class}\" d=\"{path}\"/>");
    // Dots carry the values for the pointer; too many would hide the line.
    let every = points.len().div_ceil(60).max(1);
    for (seconds, value) in points.iter().step_by(every) {
        let _ = writeln!(
            svg,
            "<circle class=\"dot {class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\"><title>{} after {seconds:.1} s</title></circle>",
            x.at(*seconds),
            y.at(*value),
            say(*value)
        );
    }
    svg.push_str("</svg>");
    svg
}
