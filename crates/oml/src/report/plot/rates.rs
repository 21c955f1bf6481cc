//! Shares of questions answered by several models, each with its interval, beside the rate that an innocent model is taken to have.

use std::fmt::Write as _;

use super::{Axis, open, words};

const WIDTH: f64 = 640.0;
const LEFT: f64 = 8.0;
const RIGHT: f64 = WIDTH - 8.0;
const TOP: f64 = 30.0;
const ROW: f64 = 54.0;
/// Letters of a name that fit beside its count on a narrow page.
const NAME: usize = 26;

/// One model.
pub(in super::super) struct Bar<'a> {
    pub(in super::super) name: &'a str,
    pub(in super::super) count: String,
    pub(in super::super) share: f64,
    pub(in super::super) low: f64,
    pub(in super::super) high: f64,
    /// The one that the report is about.
    pub(in super::super) is_suspect: bool,
}

/// One row for each of `bars`, over a line at `null`. `label` says the same in words.
pub(in super::super) fn rates(bars: &[Bar<'_>], null: f64, label: &str) -> String {
    let bottom = TOP + ROW * bars.len() as f64;
    let x = Axis::share((LEFT, RIGHT));
    let mut svg = open(WIDTH, bottom + 30.0, label);
    let at = x.at(null);
    let (anchor, shift) = if null > 0.5 {
        ("end", -7.0)
    } else {
        ("start", 7.0)
    };
    for (value, text) in x.ticks() {
        let anchor = match value {
            0.0 => "start",
            1.0 => "end",
            _ => "middle",
        };
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>",
            x.at(value),
            bottom + 24.0
        );
    }
    let _ = writeln!(
        svg,
        "<line class=\"null\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"6\" y2=\"{:.1}\"/>\
         <text class=\"null-text\" x=\"{:.1}\" y=\"18\" text-anchor=\"{anchor}\">null rate</text>",
        bottom + 4.0,
        at + shift
    );
    for (place, bar) in bars.iter().enumerate() {
        let top = TOP + ROW * place as f64;
        let (middle, class) = (top + 38.0, if bar.is_suspect { "suspect" } else { "other" });
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{LEFT}\" y=\"{text:.1}\">{}</text>\
             <text class=\"count\" x=\"{RIGHT}\" y=\"{text:.1}\" text-anchor=\"end\">{}</text>\
             <line class=\"track\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
             <line class=\"interval {class}\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
             <circle class=\"dot {class}\" cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"6\"/>",
            words(bar.name, NAME),
            words(&bar.count, NAME),
            x.at(bar.low),
            x.at(bar.high),
            x.at(bar.share),
            text = top + 22.0,
        );
    }
    svg.push_str("</svg>");
    svg
}
