//! The figures that the policies are held to, each with what was measured: printed at the end, and with `--check` the way out is an error
//! when one is missed.

/// Mean distance to the reference of the same name, in points.
const DISTANCE_MEAN: f64 = 0.5;
/// The reference has six digits: half a unit of the last, in points.
const EQUAL: f64 = 0.5e-4;
/// `flux`: mean and worst share of the way from `lru` to `belady`.
const GAP_MEAN: f64 = 0.30;
const GAP_WORST: f64 = -0.05;
/// Nanoseconds an access at a million hot rows.
const NS: [(&str, f64); 4] = [
    ("lru", 100.0),
    ("sieve", 100.0),
    ("s3-fifo", 100.0),
    ("flux", 300.0),
];
/// `flux` told of retrievals against the best that knows keys, at a tier of 10 %: points, and rows wished for an access.
const SEMANTIC: (f64, f64) = (-1.0, 0.1);

/// What was looked at.
#[derive(Debug, Default)]
pub(crate) struct Aims(Vec<(bool, String)>);

impl Aims {
    fn hold(&mut self, met: bool, what: String) {
        self.0.push((met, what));
    }

    /// A policy's distances to the reference: mean and largest, in points.
    pub(crate) fn distance(&mut self, policy: &str, mean: f64, largest: f64) {
        let text =
            |aim| format!("{policy}: distance {mean:.3} points, largest {largest:.6} (aim: {aim})");
        match policy {
            "lru" | "fifo" | "belady" => self.hold(largest <= EQUAL, text("equal to 6 digits")),
            "arc" | "lirs" | "two-q" | "s3-fifo" | "sieve" | "lfu" | "mq" | "gdsf" | "lecar"
            | "cacheus" => self.hold(mean <= DISTANCE_MEAN, text("mean of 0.5 at most")),
            _ => {}
        }
    }

    /// Gap closed on average and at worst, and moves an access beyond those of `lru`.
    pub(crate) fn gap(&mut self, policy: &str, mean: f64, worst: f64, moves: f64) {
        if policy == "flux" {
            let gap = format!(
                "flux: gap {mean:.3} (aim: {GAP_MEAN}), worst {worst:.3} (aim: {GAP_WORST})"
            );
            self.hold(mean >= GAP_MEAN && worst >= GAP_WORST, gap);
            let text = format!("flux: {moves:+.4} moves an access beyond lru (aim: 0 at most)");
            self.hold(moves <= 0.0, text);
        }
    }

    /// Nanoseconds an access.
    pub(crate) fn time(&mut self, policy: &str, ns: f64) {
        if let Some((_, aim)) = NS.iter().find(|(name, _)| *name == policy) {
            let text = format!("{policy}: {ns:.0} ns an access at 1M rows (aim: under {aim:.0})");
            self.hold(ns < *aim, text);
        }
    }

    /// The difference that the signal of retrievals makes at 10 %, in points, and rows wished for an access.
    pub(crate) fn semantic(&mut self, file: &str, points: f64, wishes: f64) {
        let text = format!(
            "{file}: {points:+.2} points by retrievals at 10 % (aim: {:.1}), {wishes:.3} wishes an access (aim: {} at most)",
            SEMANTIC.0, SEMANTIC.1
        );
        self.hold(points <= SEMANTIC.0 && wishes <= SEMANTIC.1, text);
    }

    /// Prints all; whether all were met.
    pub(crate) fn tell(&self) -> bool {
        if !self.0.is_empty() {
            println!("aims");
        }
        for (met, text) in &self.0 {
            println!("  {} {text}", if *met { "met   " } else { "MISSED" });
        }
        self.0.iter().all(|(met, _)| *met)
    }
}
