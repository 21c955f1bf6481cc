//! Several claims at once: Holm's correction, so that the chance of any false one stays at α.
//!
//! ```text
//! p(1) ≤ … ≤ p(m)        adjusted p(i) = max over j ≤ i of min(1, (m − j + 1) p(j))
//! ```
//!
//! Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6 (1979).

/// Adjusted p-values, in the order given, as natural logarithms like what is given.
#[must_use]
pub fn ln_holm(ln_p_values: &[f64]) -> Vec<f64> {
    let count = ln_p_values.len();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| ln_p_values[a].total_cmp(&ln_p_values[b]));
    let mut adjusted = vec![0.0; count];
    let mut largest = f64::NEG_INFINITY;
    for (rank, &place) in order.iter().enumerate() {
        let corrected = ln_p_values[place] + ((count - rank) as f64).ln();
        largest = corrected.min(0.0).max(largest);
        adjusted[place] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjusted_values_equal_the_definition() {
        let ln: Vec<f64> = [0.01_f64, 0.04, 0.03, 0.005].map(f64::ln).to_vec();
        let got: Vec<f64> = ln_holm(&ln).iter().map(|p| p.exp()).collect();
        // statsmodels.stats.multitest.multipletests(…, method="holm")
        for (got, expected) in got.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
        assert!(ln_holm(&[]).is_empty());
        assert_eq!(ln_holm(&[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(ln_holm(&[f64::NEG_INFINITY]), [f64::NEG_INFINITY]);
    }
}
