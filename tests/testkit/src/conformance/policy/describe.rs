//! Checks of what a policy says: explanations, options, description.

use std::collections::BTreeSet;

use aether_core::role::{Event, Explanation, Figure};
use aether_core::{Role, Row};

use super::PolicyHarness;
use super::sim::{Seen, Sim, watch};

/// What is wrong with the explanation of a known row.
fn fault(explained: &Explanation, row: Row) -> Option<String> {
    let names: BTreeSet<&str> = explained.figures.iter().map(|f| f.name).collect();
    let faults = [
        (explained.row != row, "is about another row"),
        (!explained.known, "says that the row is not known"),
        (
            !explained.keep.is_some_and(f64::is_finite),
            "has no finite keep-value",
        ),
        (explained.figures.is_empty(), "has no figures"),
        (
            explained.figures.iter().any(|f| !f.value.is_finite()),
            "has a figure that is not finite",
        ),
        (
            names.contains("") || names.len() < explained.figures.len(),
            "has a figure without a name of its own",
        ),
        (
            !adds_up(explained),
            "has parts of its worth that do not add up to it",
        ),
        (explained.words.trim().is_empty(), "has no words"),
    ];
    let found = faults.iter().find(|(wrong, _)| *wrong)?;
    Some(format!(
        "the explanation of row {row} {}: {explained:?}",
        found.1
    ))
}

/// Whether the parts of the worth, if any are told, add up to it.
fn adds_up(explained: &Explanation) -> bool {
    let parts = explained.figures.iter().filter(|f| f.unit == Figure::PART);
    let values: Vec<f64> = parts.map(|f| f.value).collect();
    let (sum, size) = values
        .iter()
        .fold((0.0, 1.0), |(sum, size), v| (sum + v, size + v.abs()));
    let off = explained.keep.map_or(0.0, |keep| (keep - sum).abs());
    values.is_empty() || off <= 1e-9 * size
}

/// Every hot row is explained with finite named figures, parts that add up, words, and the keep-value that `victims` gives it.
pub fn hot_rows_are_explained(harness: &PolicyHarness) {
    watch(harness, |sim, seen| {
        let context = sim.context();
        for (row, _) in sim.hot() {
            let explained = sim.policy.explain(row, &context);
            if let Some(fault) = fault(&explained, row) {
                return Err(fault);
            }
        }
        let Seen::Victims(_, verdicts) = seen else {
            return Ok(());
        };
        let differs = verdicts
            .iter()
            .find(|v| sim.policy.explain(v.row, &context).keep != Some(v.keep));
        match differs {
            None => Ok(()),
            Some(v) => Err(format!(
                "row {} has the keep-value {} as a victim, and {:?} in its explanation",
                v.row,
                v.keep,
                sim.policy.explain(v.row, &context).keep
            )),
        }
    });
}

/// A row it never heard of has no keep-value, but words.
pub fn unknown_rows_are_explained_as_unknown(harness: &PolicyHarness) {
    let mut sim = Sim::new(harness.build(7));
    sim.insert(1_000, 100.0, true);
    for row in [Row(0), Row(4_711), Row(u64::MAX)] {
        let explained = sim.policy.explain(row, &sim.context());
        assert_eq!(
            (explained.row, explained.known, explained.keep),
            (row, false, None)
        );
        assert!(!explained.words.trim().is_empty(), "row {row} has no words");
    }
    // Pinned is not known: nothing was told of the row itself.
    let (row, pinned) = (Row(4_712), true);
    sim.policy.on_event(&Event::Pinned { row, pinned }, sim.now);
    let explained = sim.policy.explain(row, &sim.context());
    assert!(!explained.words.trim().is_empty());
}

/// The options that the descriptor lists are the keys that the factory takes, each with a default that it accepts.
pub fn options_match(harness: &PolicyHarness) {
    let options = harness.plugin().options;
    let listed: BTreeSet<&str> = options.iter().map(|o| o.name).collect();
    assert_eq!(listed.len(), options.len(), "an option is listed twice");

    let absurd = "no_such_key_in_any_plug_in";
    let Err(error) = harness.try_build(7, &format!("{absurd} = 1\n")) else {
        panic!("an unknown key was accepted: refuse it with #[serde(deny_unknown_fields)]");
    };
    assert!(error.is_config(), "expected a Config error, got {error:?}");
    // Serde's message names the fields: "unknown field `x`, expected one of `a`, `b`".
    let message = error.message();
    let quoted = message.split('`').skip(1).step_by(2);
    let taken: BTreeSet<&str> = quoted.filter(|name| *name != absurd).collect();
    assert_eq!(
        listed, taken,
        "the descriptor's options (left) are not the configuration's fields (right)"
    );
    for option in options {
        assert!(
            !option.help.trim().is_empty(),
            "option {} has no help",
            option.name
        );
        if !option.default.is_empty() {
            let keys = format!("{} = {}\n", option.name, option.default);
            let built = harness.try_build(7, &keys);
            assert!(
                built.is_ok(),
                "the default of {} is refused: {built:?}",
                option.name
            );
        }
        let keys = format!("{} = [[true]]\n", option.name);
        let Err(error) = harness.try_build(7, &keys) else {
            panic!("option {} takes a list of lists", option.name);
        };
        assert!(
            error.is_config() && error.to_string().contains(option.name),
            "a wrong type for {}: expected a Config error that shows the key, got {error}",
            option.name
        );
    }
}

/// The descriptor says what people and the registry need.
pub fn descriptor_is_complete(harness: &PolicyHarness) {
    let plugin = harness.plugin();
    assert_eq!(plugin.role(), Role::Policy);
    assert!(!plugin.crate_name.is_empty());
    assert!(!plugin.persistent, "a policy keeps nothing by itself");
    let summary = plugin.summary.trim();
    assert!(
        !summary.is_empty() && !summary.contains('\n'),
        "summary: one line"
    );
    let mut registry = aether_core::Registry::empty();
    let added = registry.add(plugin);
    assert!(
        added.is_ok(),
        "the registry refuses the descriptor: {added:?}"
    );
}
