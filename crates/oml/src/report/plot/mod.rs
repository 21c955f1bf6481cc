//! Plots as inline SVG; colours and fonts come from the page's style sheet, so they follow its theme.

mod axis;
mod bars;
mod course;
mod evidence;
mod ranks;
mod rates;
mod shifts;

pub(super) use bars::bars;
pub(super) use course::{loss, recall};
pub(super) use evidence::evidence;
pub(super) use ranks::ranks;
pub(super) use rates::{Bar, rates};
pub(super) use shifts::shifts;

use axis::Axis;

/// Units of every plot's drawing area, margins included; the page scales it.
const WIDTH: f64 = 520.0;

/// The rectangle between the axes.
#[derive(Clone, Copy)]
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// Opens an SVG element that says what it shows to those who cannot see it.
fn open(width: f64, height: f64, label: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escaped(label)
    )
}

/// Text of at most `most` letters as it may stand in a drawing.
fn words(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return escaped(text);
    }
    let cut: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", escaped(&cut))
}

/// Text as it may stand in an element or an attribute.
fn escaped(text: &str) -> String {
    askama::filters::escape(text, askama::filters::Html)
        .map_or_else(|never| match never {}, |safe| safe.to_string())
}

/// Grid lines and numbers of both axes.
fn axes(svg: &mut String, frame: Frame, x: &Axis, x_title: &str, y: &Axis) {
    for (value, text) in y.ticks() {
        let at = y.at(value);
        svg.push_str(&format!(
            "<line class=\"grid\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>\n",
            frame.left,
            frame.right,
            frame.left - 8.0,
            at + 4.0
        ));
    }
    for (value, text) in x.ticks() {
        let at = x.at(value);
        svg.push_str(&format!(
            "<text class=\"tick below\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>\n",
            frame.bottom + 17.0
        ));
    }
    svg.push_str(&format!(
        "<line class=\"base\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
         <text class=\"title\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_title}</text>\n",
        frame.left,
        frame.right,
        frame.bottom,
        frame.bottom,
        0.5 * (frame.left + frame.right),
        frame.bottom + 36.0
    ));
}
