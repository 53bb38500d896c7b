//! Are `flux`' settings made for these traces? For each trace the settings are chosen that close most of the gap on all the others, and
//! then judged on the one that was left out. What is lost against settings chosen with that trace in sight is what the choice owes to it.

use std::collections::{BTreeMap, BTreeSet};

/// Settings of the steering, each with each; and single ones of the rest beside the defaults.
const HORIZONS: [f64; 5] = [20.0, 40.0, 80.0, 160.0, 320.0];
const LEADS: [f64; 3] = [1.0, 2.0, 3.0];
const OTHERS: [&str; 5] = [
    "history=1.0",
    "history=8.0",
    "move_cost=0.0",
    "move_cost=0.2",
    "probe=0.02",
];

/// The policy with its default settings.
const DEFAULT: &str = "flux";

/// All settings as a list of policies.
pub(crate) fn policies() -> String {
    let mut all = vec![DEFAULT.to_owned()];
    for horizon in HORIZONS {
        all.extend(LEADS.map(|lead| format!("flux:horizon={horizon:?},lead={lead:?}")));
    }
    all.extend(OTHERS.map(|other| format!("flux:{other}")));
    all.join(",")
}

/// Gap closed by trace and cell, of one setting.
pub(crate) type Gaps = BTreeMap<String, Vec<f64>>;

fn mean(gaps: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = gaps.fold((0.0, 0.0), |(sum, count), gap| (sum + gap, count + 1.0));
    sum / count
}

/// Mean over all cells but those of a trace.
fn without(gaps: &Gaps, left_out: &str) -> f64 {
    let others = gaps.iter().filter(|(trace, _)| *trace != left_out);
    mean(others.flat_map(|(_, gaps)| gaps).copied())
}

/// A line a trace, from the gaps of all settings.
pub(crate) fn report(all: &BTreeMap<String, Gaps>) {
    let traces: BTreeSet<&String> = all.values().flat_map(BTreeMap::keys).collect();
    let best = |score: &dyn Fn(&Gaps) -> f64| {
        let of = all.iter().map(|(name, gaps)| (score(gaps), name));
        of.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)))
            .unwrap()
            .1
    };
    println!(
        "{:<18} {:<28} {:>8} {:>8} {:>8}  best in sight of it",
        "left out", "chosen on the others", "chosen", "default", "best"
    );
    let mut totals = [0.0; 3];
    let mut cells = 0.0;
    for trace in traces {
        let chosen = best(&|gaps: &Gaps| without(gaps, trace));
        let seen = best(&|gaps: &Gaps| mean(gaps[trace].iter().copied()));
        let of = |name: &str| mean(all[name][trace].iter().copied());
        let figures = [of(chosen), of(DEFAULT), of(seen)];
        println!(
            "{trace:<18} {chosen:<28} {:>8.3} {:>8.3} {:>8.3}  {seen}",
            figures[0], figures[1], figures[2]
        );
        let count = all[DEFAULT][trace].len() as f64;
        cells += count;
        for (total, figure) in totals.iter_mut().zip(figures) {
            *total += figure * count;
        }
    }
    let [chosen, default, seen] = totals.map(|total| total / cells);
    println!(
        "{:<18} {:<28} {chosen:>8.3} {default:>8.3} {seen:>8.3}",
        "all cells", ""
    );
    let whole = |name: &str| mean(all[name].values().flatten().copied());
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for name in all.keys() {
        (low, high) = (low.min(whole(name)), high.max(whole(name)));
    }
    println!(
        "over all cells the {} settings tried close {low:.3} to {high:.3}\n",
        all.len()
    );
}
