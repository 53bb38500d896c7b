use aether_core::role::{Event, Tier};
use proptest::prelude::*;

use super::steer::TRIED;
use super::*;

const SECOND: u64 = 1_000_000;
/// Settings without recency, of half-lives of 32 and 256 capacities.
const LONG: u8 = 4;
const LONGEST: u8 = 6;

fn flux() -> Flux {
    Flux::new(&FluxConfig::default(), 1)
}

fn policy() -> Policy<Flux> {
    Policy::new(flux(), 1.0)
}

fn item(row: u64, restore_us: f32) -> Item {
    Item {
        row: Row(row),
        bytes: 1_024,
        restore_us,
    }
}

fn insert(policy: &mut Policy<Flux>, item: Item, now: Time) {
    let tier = Tier::Hot;
    policy.on_event(&Event::Inserted { item, tier }, now);
}

fn touch(policy: &mut Policy<Flux>, row: u64, now: Time) {
    policy.on_event(&Event::Accessed { row: Row(row) }, now);
}

/// A full tier of so many rows.
fn context(now: Time, rows: u64) -> Context {
    Context {
        now,
        temperature: 1.0,
        hot_bytes: rows * 1_024,
        budget_bytes: rows * 1_024,
    }
}

fn everything(policy: &mut Policy<Flux>, now: Time) -> Vec<Verdict> {
    let want = Want {
        rows: usize::MAX,
        bytes: u64::MAX,
    };
    let rows = policy.len() as u64;
    policy.victims(want, &context(now, rows))
}

/// Tells the policy of a tier of so many rows and sets the pair of half-life and share as if the trials had said so.
fn settle(policy: &mut Policy<Flux>, rows: u64, pair: u8) {
    let (now, item) = (Time(0), item(50_000, 100.0));
    policy.on_event(&Event::Missed { item }, now);
    policy.admit(&item, &context(now, rows));
    let mut saved = Vec::new();
    policy.rules.steer.save(&mut saved);
    saved[1] = pair;
    // Far ahead of recency, so that what is used afterwards does not change it.
    let lead = 2 + usize::from(pair) * 16;
    saved[lead..lead + 8].copy_from_slice(&1e6_f64.to_le_bytes());
    policy.rules.steer.load(&mut Input(&saved)).unwrap();
}

proptest! {
    /// More recent, more frequent, more important, dearer to restore, smaller: none of them ever lowers the keep-value. An
    /// earlier design let a high score make a hot row more likely to leave.
    #[test]
    fn no_merit_lowers_the_keep_value(
        uses in prop::collection::vec(0.0_f64..5.0, 1..20),
        later in 0.0_f64..5.0,
        wait in 0.0_f64..40.0,
        importance in 0.0_f64..=1.0,
        better in 0.0_f64..=1.0,
        restore in 0.0_f64..1e9,
        dearer in 1.0_f64..10.0,
        bytes in 1_u32..1 << 30,
    ) {
        let mut rules = flux();
        let mut score = Score::default();
        let mut time = 1.0;
        for gap in &uses {
            time += gap;
            score = score.used(1.0, time);
        }
        rules.now = time + later + wait;
        let keep = |score: Score, importance: f64, restore: f64, bytes: u32| {
            let past = Past::default().scored(score).judged_at(Time(0), importance);
            rules.terms(past, restore, bytes, Time(0)).keep()
        };
        let base = keep(score, importance, restore, bytes);
        prop_assert!(base.is_finite());
        // The last use later, all else equal: the score of the others, and then the last.
        let before = score.count(time) - 1.0;
        let moved = Score::of(time + later + (1.0 + before * (-later).exp2()).log2());
        prop_assert!(keep(moved, importance, restore, bytes) >= base - 2e-3);
        prop_assert!(keep(score.used(1.0, time), importance, restore, bytes) >= base);
        prop_assert!(keep(score.used(1.0, time + later), importance, restore, bytes) >= base);
        prop_assert!(keep(score, importance.max(better), restore, bytes) >= base);
        prop_assert!(keep(score, importance, restore * dearer, bytes) >= base);
        prop_assert!(keep(score, importance, restore, bytes / 2 + 1) >= base);
    }

    /// Of two rows that are alike but for one merit, the one with it never stands before the other among the victims,
    /// whatever happens to other rows and whichever share stays by recency.
    #[test]
    fn of_two_alike_the_better_never_leaves_earlier(
        merit in 0_usize..4,
        pair in 0..TRIED as u8,
        rounds in 1_usize..6,
        noise in prop::collection::vec(0_u64..60, 0..200),
        after in prop::collection::vec(0_u64..60, 0..200),
    ) {
        let mut policy = policy();
        let (worse, better) = (1_000, 999);
        let now = Time(SECOND);
        settle(&mut policy, 62, pair);
        for row in 0..60 {
            insert(&mut policy, item(row, 100.0), now);
        }
        insert(&mut policy, item(worse, 100.0), now);
        insert(&mut policy, item(better, if merit == 3 { 900.0 } else { 100.0 }), now);
        // Where no share stays by recency, importance and cost must win against a use that came a moment later.
        let by_worth = matches!(merit, 1 | 3) && policy.rules.steer.recent_share() == 0.0;
        for _ in 0..rounds {
            noise.iter().for_each(|row| touch(&mut policy, *row, now));
            let (first, last) = if by_worth { (better, worse) } else { (worse, better) };
            touch(&mut policy, first, now);
            touch(&mut policy, last, now);
        }
        match merit {
            0 => touch(&mut policy, better, now),
            1 => policy.on_event(&Event::Feedback { row: Row(better), reward: 1.0 }, now),
            2 => {
                // More recent, not more often: the worse one's last use comes first.
                touch(&mut policy, worse, now);
                noise.iter().for_each(|row| touch(&mut policy, *row, now));
                touch(&mut policy, better, now);
            }
            _ => {}
        }
        after.iter().for_each(|row| touch(&mut policy, *row, now));
        let order = everything(&mut policy, now);
        prop_assert_eq!(order.len(), 62);
        prop_assert!(order.windows(2).all(|two| two[0].keep <= two[1].keep));
        let at = |row: u64| order.iter().position(|v| v.row == Row(row)).unwrap();
        let keep = |row: u64| order[at(row)].keep;
        prop_assert!(keep(worse) <= keep(better), "{} {}", keep(worse), keep(better));
        prop_assert!(
            at(worse) < at(better) || keep(worse) == keep(better),
            "the better one stands at {}, the worse one at {}", at(better), at(worse)
        );
    }
}

/// The sum as documented, of figures worked out by hand: four uses at once, half a half-life ago, judged 1 four times at a rate
/// of 0.3, of 4 KiB, 900 us to restore next to 100 us for any miss.
#[test]
fn the_keep_value_is_the_documented_sum() {
    let mut rules = flux();
    let mut score = Score::default();
    for _ in 0..4 {
        score = score.used(1.0, 7.0);
    }
    let mut past = Past::default().scored(score);
    for _ in 0..4 {
        past = rules.judged(past, 1.0, Time(0));
    }
    rules.now = 7.5;
    let terms = rules.terms(past, 900.0, 4_096, Time(0));
    let importance: f64 = 1.0 - 0.7_f64.powi(4);
    let expected = 4.0_f64.log2() - 0.5 + (1.0 + importance).log2() + 1.0_f64.log2() - 2.0;
    assert!(
        (terms.keep() - expected).abs() < 3e-3,
        "{terms:?} {expected}"
    );
}

/// With a count of 2 that stands two doublings above the threshold, 2 (1 - 1/4) uses are to be expected before it is down.
#[test]
fn uses_are_expected_until_the_threshold_is_reached() {
    assert!((Flux::expected_uses(2.0, -1.0, -3.0) - 1.5).abs() < 1e-12);
    assert_eq!(Flux::expected_uses(2.0, -3.0, -1.0), 0.0);
}

/// The lowest leave, not some of them: of 10,000 rows with ten classes of use, the 500 victims are all of the least used one.
#[test]
fn victims_are_the_lowest() {
    let mut policy = policy();
    let now = Time(SECOND);
    settle(&mut policy, 10_000, LONG);
    for row in 0..10_000 {
        insert(&mut policy, item(row, 200.0), now);
    }
    for round in 1..=9 {
        for row in (0..10_000).filter(|row| row % 10 >= round) {
            touch(&mut policy, row, now);
        }
    }
    let want = Want {
        rows: 500,
        bytes: 500 * 1_024,
    };
    let verdicts = policy.victims(want, &context(now, 10_000));
    assert_eq!(verdicts.len(), 500);
    assert!(verdicts.iter().all(|v| v.row.0 % 10 == 0));
    let one = policy.victim(1, &context(now, 10_000)).unwrap();
    assert_eq!(one.row.0 % 10, 0);
}

/// Without pressure the answer is a fair sample, good rows included: the flux reads the tier's spread from it.
#[test]
fn without_pressure_the_sample_is_fair() {
    let mut policy = policy();
    for row in 0..1_000 {
        insert(&mut policy, item(row, 200.0), Time(0));
    }
    let context = context(Time(2 * SECOND), 1_000);
    let mut good = 0;
    for _ in 0..50 {
        let verdicts = policy.victims(Want { rows: 64, bytes: 0 }, &context);
        assert_eq!(verdicts.len(), 64);
        good += verdicts.iter().filter(|v| v.row.0 >= 500).count();
    }
    // 1600 of 3200 expected; five standard deviations are 141.
    assert!(good.abs_diff(1_600) < 150, "{good} of 3200");
}

#[test]
fn importance_outlives_other_merits_and_fades() {
    let mut policy = policy();
    insert(&mut policy, item(1, 200.0), Time(0));
    insert(&mut policy, item(2, 200.0), Time(0));
    for _ in 0..10 {
        let judged = Event::Feedback {
            row: Row(1),
            reward: 1.0,
        };
        policy.on_event(&judged, Time(0));
    }
    let importance = |policy: &Policy<Flux>, row: u64, days: u64| {
        let context = context(Time(days * 86_400 * SECOND), 2);
        let explained = policy.explain(Row(row), &context);
        let figures = explained.figures.iter();
        let gain = figures.clone().find(|f| f.name == "importance_part");
        gain.unwrap().value
    };
    // log2(1 + 1 - 0.7^10) at first, half of the importance after each week.
    for (days, left) in [(0, 0.972_f64), (7, 0.486), (14, 0.243)] {
        let gain = importance(&policy, 1, days);
        assert!(
            (gain - (1.0 + left).log2()).abs() < 2e-3,
            "{days} days: {gain}"
        );
        assert_eq!(importance(&policy, 2, days), 0.0);
    }
}

#[test]
fn a_row_that_left_is_remembered_and_comes_back_with_its_past() {
    let mut policy = policy();
    settle(&mut policy, 1, LONG);
    insert(&mut policy, item(1, 200.0), Time(0));
    for n in 1..=20 {
        touch(&mut policy, 1, Time(n * SECOND));
    }
    let now = Time(30 * SECOND);
    let (left, to) = (item(1, 200.0), Tier::Cold);
    policy.on_event(&Event::Moved { item: left, to }, now);
    policy.on_event(&Event::Missed { item: left }, now);
    let context = context(now, 1);
    let known = policy.admit(&left, &context);
    let stranger = policy.admit(&item(2, 200.0), &context);
    assert!(known.keep > stranger.keep + 2.0, "{known:?} {stranger:?}");
    let explained = policy.explain(Row(1), &context);
    assert!(explained.words.contains("not hot; "), "{}", explained.words);
    let to = Tier::Hot;
    policy.on_event(&Event::Moved { item: left, to }, now);
    let back = policy.explain(Row(1), &context).keep.unwrap();
    assert_eq!(back, known.keep, "admission promised what promotion gave");
}

/// 20 bytes and an eighth, where the history is full; what else the books hold is the same with and without one.
#[test]
fn a_row_that_left_takes_at_most_24_bytes() {
    let books = |share| {
        let mut policy = Policy::new(flux(), share);
        (0..10_000).for_each(|row| insert(&mut policy, item(row, 100.0), Time(0)));
        for row in 10_000..100_000 {
            let item = item(row, 100.0);
            policy.on_event(&Event::Missed { item }, Time(0));
        }
        policy
    };
    let (with, without) = (books(3.0), books(0.0));
    let context = context(Time(0), 10_000);
    let known = |row: &u64| with.explain(Row(*row), &context).known;
    let remembered = (10_000..100_000).filter(known).count() as u64;
    assert!((15_000..=30_000).contains(&remembered), "{remembered}");
    let bytes = with.bytes() - without.bytes();
    assert!(bytes <= 24 * remembered, "{bytes} for {remembered} rows");
}

/// Where scores decide, a stranger is refused among rows that are used often, and let in as soon as it is used as often.
#[test]
fn a_stranger_enters_when_it_is_worth_the_move() {
    let config = FluxConfig {
        probe: 0.0,
        ..FluxConfig::default()
    };
    let mut policy = Policy::new(Flux::new(&config, 1), 1.0);
    let now = Time(SECOND);
    settle(&mut policy, 50, LONGEST);
    for _ in 0..3 {
        for row in 0..50 {
            if policy.len() < 50 {
                insert(&mut policy, item(row, 100.0), now);
            }
            touch(&mut policy, row, now);
        }
    }
    let mut enters = Vec::new();
    for _ in 0..6 {
        policy.on_event(
            &Event::Missed {
                item: item(99, 100.0),
            },
            now,
        );
        let verdict = policy.admit(&item(99, 100.0), &context(now, 50));
        let victim = policy.victim(1_024, &context(now, 50)).unwrap();
        assert!(!verdict.certain);
        enters.push(verdict.keep > victim.keep);
    }
    assert!(!enters[0] && enters[5], "{enters:?}");
    assert!(enters.is_sorted(), "{enters:?}");
}

/// The parts of the keep-value add up, and the words tell what would move the row next.
#[test]
fn words_and_figures_tell_the_whole_sum() {
    let mut policy = policy();
    settle(&mut policy, 4, LONG);
    for row in 1..=4 {
        insert(&mut policy, item(row, 900.0), Time(0));
    }
    for n in 0..4 {
        touch(&mut policy, 1, Time(n * SECOND));
    }
    let explained = policy.explain(Row(1), &context(Time(183 * SECOND), 4));
    let of = |name: &str| {
        let figure = explained.figures.iter().find(|f| f.name == name);
        figure.unwrap().value
    };
    let sum = of("reuse_part") + of("importance_part") + of("cost_part") + of("size_part");
    assert!((sum - explained.keep.unwrap()).abs() < 1e-12);
    assert_eq!(of("half_life"), 32.0 * 4.0);
    assert!(of("threshold") < explained.keep.unwrap());
    let words = &explained.words;
    assert!(
        words.starts_with("used 3 minutes ago, decayed count 4."),
        "{words}"
    );
    assert!(
        words.contains("uses of other rows, and leaves when room is needed"),
        "{words}"
    );
    let lowest = everything(&mut policy, Time(183 * SECOND))[0].row;
    let words = policy
        .explain(lowest, &context(Time(183 * SECOND), 4))
        .words;
    assert!(words.contains("it is the next to leave"), "{words}");
}

#[test]
fn senseless_settings_are_refused_at_their_key() {
    for (keys, key) in [
        (
            "importance_weight = -1.0",
            "importance_weight: expected 0 to",
        ),
        ("move_cost = nan", "move_cost: expected 0 to"),
        ("importance_rate = 1.5", "importance_rate: expected 0 to 1"),
        ("history = 65.0", "history: expected 0 to 64"),
        ("probe = 2.0", "probe: expected 0 to 1"),
        (
            "importance_half_life = \"0s\"",
            "importance_half_life: expected \"1s\"",
        ),
        ("miss_cost = \"0s\"", "miss_cost: expected \"1us\""),
        ("mis_cost = \"1s\"", "did you mean `miss_cost`"),
    ] {
        let raw = RawConfig::from_toml("policy", keys).unwrap();
        let parsed = raw
            .parse::<FluxConfig>()
            .and_then(|config| config.check(&raw));
        let error = parsed.unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains(key),
            "{error}"
        );
    }
}

/// Rows that enter without a miss are moves that recency would not have made: until misses have made up for them, rows of which no use is
/// known wait for their second. Where there is room nobody waits.
#[test]
fn while_moves_are_owed_strangers_wait_for_their_second_use() {
    let mut policy = policy();
    let now = Time(SECOND);
    for row in 0..20 {
        policy.on_event(
            &Event::Missed {
                item: item(row, 100.0),
            },
            now,
        );
        policy.admit(&item(row, 100.0), &context(now, 20));
        let (item, to) = (item(row, 100.0), Tier::Hot);
        policy.on_event(&Event::Moved { item, to }, now);
    }
    let missed = |policy: &mut Policy<Flux>, row: u64, context: &Context| {
        let item = item(row, 100.0);
        policy.on_event(&Event::Missed { item }, now);
        policy.admit(&item, context)
    };
    let full = context(now, 20);
    assert!(missed(&mut policy, 100, &full).certain);
    // Four rows come in that nobody asked for.
    for row in 200..204 {
        let (item, to) = (item(row, 100.0), Tier::Hot);
        policy.on_event(&Event::Moved { item, to }, now);
    }
    let refused = missed(&mut policy, 101, &full);
    assert!(!refused.certain && refused.keep < -60.0, "{refused:?}");
    assert!(missed(&mut policy, 101, &full).certain, "known by now");
    let room = Context {
        hot_bytes: 1_024,
        ..full
    };
    assert!(!missed(&mut policy, 102, &full).certain);
    assert!(missed(&mut policy, 103, &room).certain);
    assert!(missed(&mut policy, 104, &full).certain, "paid back");
}
