//! Numbers as a report prints them; no line breaks inside one.

/// A number below this is written as a power of ten.
const SMALLEST_PLAIN: f64 = -4.0;
/// A number above this is written as a power of ten.
const LARGEST_PLAIN: f64 = 6.0;

/// A positive number from its decimal logarithm, also where it is too large or too small for one: `12.5`, `7.1 × 10¹⁰`.
pub(super) fn power(log10: f64) -> String {
    if log10 == f64::NEG_INFINITY {
        return "0".to_owned();
    }
    if (SMALLEST_PLAIN..LARGEST_PLAIN).contains(&log10) {
        let value = 10f64.powf(log10);
        return match value {
            0.0..0.1 => format!("{value:.4}"),
            0.1..100.0 => format!("{value:.2}"),
            _ => count(value.round() as u64),
        };
    }
    let mut exponent = log10.floor();
    let mut mantissa = format!("{:.1}", 10f64.powf(log10 - exponent));
    if mantissa == "10.0" {
        mantissa = "1.0".to_owned();
        exponent += 1.0;
    }
    let exponent = raised(exponent as i64);
    match mantissa.as_str() {
        "1.0" => format!("10{exponent}"),
        _ => format!("{mantissa}\u{a0}×\u{a0}10{exponent}"),
    }
}

/// A whole number in superscript digits.
fn raised(number: i64) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let sign = |c: char| if c == '-' { '⁻' } else { c };
    number
        .to_string()
        .chars()
        .map(|c| {
            c.to_digit(10)
                .map_or_else(|| sign(c), |digit| DIGITS[digit as usize])
        })
        .collect()
}

/// A share as a percentage: `100 %`, `3.7 %`, `0.004 %`.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let digits = match percent {
        ..0.0005 => 1,
        ..0.1 => 3,
        ..1.0 => 2,
        _ => 1,
    };
    let mut text = format!("{percent:.digits$}");
    if let Some(whole) = text.strip_suffix(".0") {
        text = whole.to_owned();
    }
    // Nearly all is not all.
    match text.as_str() {
        "100" if share < 1.0 => "99.9\u{a0}%".to_owned(),
        _ => format!("{text}\u{a0}%"),
    }
}

/// A whole number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A small probability as odds: `1 in 1,000,000`.
pub(super) fn odds(probability: f64) -> String {
    let log10 = -probability.log10();
    if log10 < 15.0 {
        format!(
            "1\u{a0}in\u{a0}{}",
            count((1.0 / probability).round() as u64)
        )
    } else {
        format!("1\u{a0}in\u{a0}{}", power(log10))
    }
}

/// `1 query`, `2 queries`.
pub(super) fn some(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A measured number of any size.
pub(super) fn plain(value: f64) -> String {
    match value.abs() {
        0.0..0.1 => format!("{value:.4}"),
        0.1..10_000.0 => format!("{value:.2}"),
        _ => power(value.abs().log10()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_any_size() {
        for (log10, expected) in [
            (10.849, "7.1\u{a0}×\u{a0}10¹⁰"),
            (-61.07, "8.5\u{a0}×\u{a0}10⁻⁶²"),
            (6.0, "10⁶"),
            (6.999_99, "10⁷"),
            (-384.5, "3.2\u{a0}×\u{a0}10⁻³⁸⁵"),
            (0.0, "1.00"),
            (2.5055, "320"),
            (-2.0, "0.0100"),
            (f64::NEG_INFINITY, "0"),
        ] {
            assert_eq!(power(log10), expected);
        }
    }

    #[test]
    fn shares_counts_and_odds() {
        for (share, expected) in [
            (1.0, "100\u{a0}%"),
            (0.9999, "99.9\u{a0}%"),
            (0.0365, "3.6\u{a0}%"),
            (0.005, "0.50\u{a0}%"),
            (0.00004, "0.004\u{a0}%"),
            (0.0, "0\u{a0}%"),
        ] {
            assert_eq!(percent(share), expected);
        }
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(odds(1e-6), "1\u{a0}in\u{a0}1,000,000");
        assert_eq!(odds(1e-18), "1\u{a0}in\u{a0}10¹⁸");
        assert_eq!(some(1, "query", "queries"), "1 query");
        assert_eq!(plain(32.577), "32.58");
        assert_eq!(plain(0.01525), "0.0152");
    }
}
