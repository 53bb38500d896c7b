use super::*;
use crate::plugin::{Factory, Plugin};

fn message(text: &str) -> String {
    Config::from_toml(text).unwrap_err().to_string()
}

#[test]
fn every_default_is_valid() {
    Config::default().validate().unwrap();
    let read = Config::from_toml("").unwrap();
    assert_eq!(read.memory, MemoryConfig::default());
    assert_eq!(read.hot.backend, "hnsw");
}

#[test]
fn each_kind_of_mistake_points_at_its_place() {
    for (text, place, words) in [
        (
            "[memory]\nhot_budget = \"12 XB\"\n",
            "2:14",
            "expected a size",
        ),
        (
            "[memory]\nhot_budget = 12\n",
            "2:14",
            "quoted value with a unit",
        ),
        (
            "[memory]\nhot_budgt = \"1MiB\"\n",
            "2:1",
            "did you mean `hot_budget`?",
        ),
        ("[memori]\n", "1:1", "did you mean [memory]?"),
        (
            "[flux]\nhigh_water = 1.5\n",
            "2:14",
            "expected 0.05 to 1.0, got 1.5",
        ),
        (
            "[flux]\nlow_water = 0.99\n",
            "2:13",
            "expected 0.01 to high_water",
        ),
        (
            "[search]\nmode = \"bound\"\n",
            "2:8",
            "did you mean `bounded`?",
        ),
        (
            "[flux]\nobjective = { p99_ms = -5 }\n",
            "2:13",
            "objective: p99_ms: expected more than 0",
        ),
        (
            "[flux.objective]\np99_m = 5\n",
            "2:1",
            "did you mean `p99_ms`?",
        ),
        (
            "[memory]\nhot_budget = \"1GiB\"\n[flux]\nobjective = { ram = 2.5, within = \"2GiB\" }\n",
            "4:13",
            "got within and memory.hot_budget",
        ),
        (
            "[flux]\nobjective = { ram = 2.5 }\n[policy]\nbackend = \"classic-flux\"\nrecency_weight = 2.0\n",
            "2:13",
            "got an objective and policy.recency_weight",
        ),
        ("[codes]\nbits = 9\n", "2:8", "expected 1 to 8, got 9"),
        (
            "[codes]\nconfidence = 1.0\n",
            "2:14",
            "expected 0.5 to 0.999999, got 1.0",
        ),
        (
            "[search]\nrecall = 2.0\n",
            "2:10",
            "expected 0.0 to 1.0, got 2.0",
        ),
        ("[hot]\nbackend = 3\n", "2:11", "expected a quoted name"),
        ("[hot\n", "1:5", ""),
    ] {
        let got = message(text);
        assert!(
            got.contains(place) && got.contains(words) && got.contains('^'),
            "{text}\n{got}"
        );
    }
}

#[test]
fn the_environment_overrides_the_file_and_says_so() {
    let env = |k: &str, v: &str| vec![(k.to_owned(), v.to_owned())];
    let text = "[hot]\nbackend = \"hnsw\"\n";
    let config = Config::from_toml_and_env(text, env("AETHER__HOT__BACKEND", "flat")).unwrap();
    assert_eq!(config.hot.backend, "flat");
    let settings = config.settings(&Registry::empty());
    let hot = settings
        .iter()
        .find(|s| s.table == "hot" && s.key == "backend")
        .unwrap();
    assert_eq!(hot.origin, "environment variable AETHER__HOT__BACKEND");
    let bad = Config::from_toml_and_env("", env("AETHER__MEMORY__DIMM", "3")).unwrap_err();
    assert!(bad.to_string().contains("AETHER__MEMORY__DIMM"), "{bad}");
    let bad = Config::from_toml_and_env("", env("AETHER__DIM", "3")).unwrap_err();
    assert!(bad.to_string().contains("AETHER__TABLE__KEY"), "{bad}");
}

#[test]
fn a_composed_codec_is_a_table_of_its_own() {
    let text = "[codec]\nbackend = \"sq8\"\n[codec.then]\nbackend = \"lz4\"\n";
    let config = Config::from_toml(text).unwrap();
    assert_eq!(config.codec_then.unwrap().backend, "lz4");
}

#[test]
fn an_unknown_plugin_lists_what_there_is_and_the_feature_that_adds_it() {
    let config = Config::from_toml("[hot]\nbackend = \"flat\"\n").unwrap();
    let text = config
        .check_plugins(&Registry::empty())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("2:11") && text.contains("feature \"hot-flat\""),
        "{text}"
    );
}

#[test]
fn tables_of_free_keys_are_never_shown() {
    static STORE: Plugin = Plugin {
        name: "remote",
        crate_name: "test",
        summary: "",
        options: &[OptionSpec {
            name: "options",
            default: "{}",
            unit: "",
            help: "Free keys.",
        }],
        persistent: true,
        factory: Factory::Cold(|_, _| Err(Error::internal("never built"))),
    };
    let mut registry = Registry::empty();
    registry.add(&STORE).unwrap();
    let text = "[cold]\nbackend = \"remote\"\noptions = { secret_access_key = \"hush\" }\n";
    let settings = Config::from_toml(text).unwrap().settings(&registry);
    assert!(settings.iter().any(|s| s.key == "options"));
    assert!(
        settings.iter().all(|s| !s.value.contains("hush")),
        "{settings:?}"
    );
}

#[test]
fn an_objective_bounds_the_hot_tier_by_within_or_by_the_budget() {
    let read = |text: &str| Config::from_toml(text).unwrap();
    let both = read("[flux]\nobjective = { p99_ms = 5, within = \"2GiB\" }\n");
    assert_eq!(both.hot_bound(), 2 << 30);
    assert_eq!(
        both.objective().unwrap(),
        Some(Objective::Latency { p99_ms: 5.0 })
    );
    let budget = read(
        "[memory]\nhot_budget = \"1GiB\"\n[flux.objective]\nram = 2.5\n[remote]\nprice_get = 0.01\n",
    );
    assert_eq!(budget.hot_bound(), 1 << 30);
    let Some(Objective::Cost(prices)) = budget.objective().unwrap() else {
        panic!("prices were stated");
    };
    assert_eq!(
        (prices.ram, prices.request, prices.object_store),
        (2.5, 0.01, 0.023)
    );
    assert_eq!(read("").objective().unwrap(), None);
    let env = [("AETHER__FLUX__OBJECTIVE__P99_MS".to_owned(), "7".to_owned())];
    let env = Config::from_toml_and_env("", env).unwrap();
    assert_eq!(
        env.objective().unwrap(),
        Some(Objective::Latency { p99_ms: 7.0 })
    );
    let shown = both.settings(&Registry::empty());
    let objective = shown.iter().find(|s| s.key == "objective").unwrap();
    assert_eq!(objective.value, "{ p99_ms = 5.0, within = \"2GiB\" }");
    assert_eq!(objective.origin, "configuration:2");
}
