//! The upper tail of the normal distribution as a logarithm, also where the tail itself is too small for a number.

use statrs::function::erf::erfc;

/// From here on the asymptotic series is exact to the digits of `erfc`, which has some eleven.
const FAR: f64 = 25.0;

/// ln P(N(0, 1) ≥ `z`).
pub(super) fn ln_upper_tail(z: f64) -> f64 {
    if z < FAR {
        return (0.5 * erfc(z / std::f64::consts::SQRT_2)).ln();
    }
    // 1 − 1/z² + 3/z⁴ − 15/z⁶ + 105/z⁸
    let r = 1.0 / (z * z);
    let series = 1.0 - r * (1.0 - r * (3.0 - r * (15.0 - r * 105.0)));
    -0.5 * z * z - (z * (2.0 * std::f64::consts::PI).sqrt()).ln() + series.ln()
}

#[cfg(test)]
mod tests {
    use super::ln_upper_tail;

    /// Goldens of mpmath (50 digits): `log(erfc(z / sqrt(2)) / 2)`.
    #[test]
    fn the_tail_is_right_near_and_far() {
        for (z, expected) in GOLDENS {
            let got = ln_upper_tail(z);
            let error = (got - expected).abs() / expected.abs();
            assert!(error < 1e-9, "{z}: {got}, expected {expected}");
        }
        let step = ln_upper_tail(25.0) - ln_upper_tail(25.0 - 1e-9);
        assert!((step + 25.04e-9).abs() < 1e-8, "no jump, {step:e}");
    }

    const GOLDENS: [(f64, f64); 7] = [
        (-3.0, -0.0013508099647481938),
        (0.0, -0.69314718055994531),
        (1.0, -1.8410216450092635),
        (4.75, -13.798571593147467),
        (24.9, -314.14041276161316),
        (25.0, -316.63940800802026),
        (300.0, -45006.622732118663),
    ];
}
