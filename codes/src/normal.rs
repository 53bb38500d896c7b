//! Quantiles of the normal distribution.

/// How many standard deviations hold a share `confidence` of a normal distribution, both sides counted: 1.96 for 0.95.
///
/// Acklam's rational approximation (2003), relative error below 1.2e-9. The coordinate of a random point of a sphere, whose
/// quantile the codes need, has lighter tails than the normal one of the same variance, so this is on the safe side.
pub fn deviations(confidence: f64) -> f32 {
    let p = 0.5 + confidence.clamp(0.0, 1.0 - 1e-9) / 2.0;
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] = [
        7.784695709041462e-3,
        3.224671290700398e-1,
        2.445134137142996,
        3.754408661907416,
        1.0,
    ];
    let polynomial = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    if p <= 0.97575 {
        let q = p - 0.5;
        let r = q * q;
        (q * polynomial(&A, r) / polynomial(&B, r)) as f32
    } else {
        let q = (-2.0 * (1.0 - p).ln()).sqrt();
        (-polynomial(&C, q) / polynomial(&D, q)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_quantiles() {
        for (confidence, expected) in [
            (0.0, 0.0),
            (0.5, 0.674_489_75),
            (0.95, 1.959_964),
            (0.99, 2.575_829),
            (0.999, 3.290_527),
            (0.9999, 3.890_592),
        ] {
            let got = deviations(confidence);
            assert!((got - expected).abs() < 1e-4, "{confidence}: {got}");
        }
    }
}
