//! An axis: maps values to drawing units, linearly or by decades, and finds round numbers to mark.

/// About this many marks on a linear axis.
const MARKS: f64 = 5.0;

/// A range of values laid over a range of drawing units.
pub(super) struct Axis {
    values: (f64, f64),
    units: (f64, f64),
    scale: Scale,
    /// Marks are written as percentages.
    percent: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    /// Whole numbers alone are marked.
    Counts,
    Decades,
    /// Values are decimal logarithms already.
    Powers,
}

impl Axis {
    /// A linear axis from `low` to `high`.
    pub(super) fn linear(low: f64, high: f64, units: (f64, f64)) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self {
            values: (low, high),
            units,
            scale: Scale::Linear,
            percent: false,
        }
    }

    /// A linear axis of shares from none to all.
    pub(super) fn share(units: (f64, f64)) -> Self {
        Self {
            percent: true,
            ..Self::linear(0.0, 1.0, units)
        }
    }

    /// A logarithmic axis over whole decades around `low` and `high`, both of which are positive.
    pub(super) fn decades(low: f64, high: f64, units: (f64, f64)) -> Self {
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        let high = if high > low { high } else { low + 1.0 };
        Self {
            values: (low, high),
            units,
            scale: Scale::Decades,
            percent: false,
        }
    }

    /// An axis from 0 to `most`, at least 1.
    pub(super) fn counts(most: usize, units: (f64, f64)) -> Self {
        Self {
            scale: Scale::Counts,
            ..Self::linear(0.0, most.max(1) as f64, units)
        }
    }

    /// An axis of decimal logarithms, which may be those of numbers too large to write.
    pub(super) fn powers(low: f64, high: f64, units: (f64, f64)) -> Self {
        Self {
            scale: Scale::Powers,
            ..Self::linear(low, high, units)
        }
    }

    /// Where `value` is drawn; values outside of the axis are drawn at its end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear | Scale::Counts | Scale::Powers => value,
            Scale::Decades => value.max(f64::MIN_POSITIVE).log10(),
        };
        let share = ((value - self.values.0) / (self.values.1 - self.values.0)).clamp(0.0, 1.0);
        self.units.0 + share * (self.units.1 - self.units.0)
    }

    /// Round values on the axis and how they are written.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = self.values;
        match self.scale {
            Scale::Powers => {
                let step = round_step((high - low) / MARKS).max(1.0);
                let step = if step < 3.0 { step.floor() } else { step };
                let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
                (first..=last)
                    .map(|i| i as f64 * step)
                    .map(|power| (power, decade(power.round())))
                    .collect()
            }
            Scale::Linear | Scale::Counts => {
                let mut step = round_step((high - low) / MARKS);
                if self.scale == Scale::Counts {
                    step = if step < 3.0 {
                        step.max(1.0).floor()
                    } else {
                        step
                    };
                }
                let decimals = (-step.log10().floor()).max(0.0) as usize;
                let count = ((high - low) / step + 1e-9).floor() as usize;
                let first = (low / step).ceil() * step;
                (0..=count)
                    .map(|i| first + i as f64 * step)
                    .filter(|value| *value <= high + 1e-9 * step)
                    .map(|value| match self.percent {
                        true => (value, format!("{:.0} %", 100.0 * value)),
                        false => (value, format!("{value:.decimals$}")),
                    })
                    .collect()
            }
            Scale::Decades => {
                let step = ((high - low) / 7.0).ceil().max(1.0);
                let count = ((high - low) / step).floor() as usize;
                // From the top down, so that 1 is marked when it is the end of the axis.
                (0..=count)
                    .map(|i| high - i as f64 * step)
                    .map(|power| (10f64.powf(power), decade(power)))
                    .collect()
            }
        }
    }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|s| *s >= step * (1.0 - 1e-9))
        .unwrap_or(step)
}

fn decade(power: f64) -> String {
    match power as i64 {
        0 => "1".to_owned(),
        1 => "10".to_owned(),
        power @ -2..=-1 => format!("{}", 10f64.powi(power as i32)),
        power => format!(
            "10<tspan class=\"power\" dy=\"-4\">{}</tspan>",
            power.to_string().replace('-', "−")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(axis: &Axis) -> Vec<f64> {
        axis.ticks().into_iter().map(|(value, _)| value).collect()
    }

    #[test]
    fn linear_marks_are_round() {
        assert_eq!(
            marks(&Axis::linear(0.0, 87.0, (0.0, 1.0))),
            [0.0, 20.0, 40.0, 60.0, 80.0]
        );
        assert_eq!(
            marks(&Axis::linear(0.0, 1.2, (0.0, 1.0))),
            [0.0, 0.25, 0.5, 0.75, 1.0]
        );
    }

    #[test]
    fn decades_are_whole() {
        let axis = Axis::decades(0.003, 0.9, (100.0, 0.0));
        let marked = marks(&axis);
        assert!(
            (marked[0] - 1.0).abs() < 1e-12 && (marked[3] - 1e-3).abs() < 1e-12,
            "{marked:?}"
        );
        assert_eq!(
            (axis.at(1.0), axis.at(1e-3), axis.at(0.0)),
            (0.0, 100.0, 100.0)
        );
    }

    #[test]
    fn counts_and_powers_are_marked_by_whole_numbers() {
        assert_eq!(
            marks(&Axis::counts(4, (0.0, 1.0))),
            [0.0, 1.0, 2.0, 3.0, 4.0]
        );
        assert_eq!(
            marks(&Axis::counts(12, (0.0, 1.0))),
            [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
        );
        assert_eq!(
            marks(&Axis::powers(-0.4, 3.0, (0.0, 1.0))),
            [0.0, 1.0, 2.0, 3.0]
        );
        let far = Axis::powers(-2.0, 700.0, (0.0, 1.0));
        assert_eq!(marks(&far), [0.0, 200.0, 400.0, 600.0]);
    }

    #[test]
    fn an_empty_range_still_has_an_axis() {
        assert!(Axis::linear(1.0, 1.0, (0.0, 10.0)).at(1.0).is_finite());
        assert!(Axis::decades(1.0, 1.0, (0.0, 10.0)).at(1.0).is_finite());
    }
}
