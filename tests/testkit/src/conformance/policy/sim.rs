//! A simulated hot tier beside a policy: it tells the policy what an engine would and knows what is true.

use std::collections::BTreeMap;

use aether_core::role::{Context, Event, EvictionPolicy, Item, Tier, Verdict, Want};
use aether_core::{Row, Time};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::PolicyHarness;

/// What is true of one row.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// Its figures as the policy was told.
    pub item: Item,
    /// Whether it is in the hot tier.
    pub hot: bool,
    /// Whether it is pinned.
    pub pinned: bool,
}

/// One thing that happens. `at` picks among the rows there are, modulo their number; without any, nothing happens.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each says what an engine would do with a row")]
pub enum Step {
    Insert {
        bytes: u32,
        restore_us: f32,
        hot: bool,
    },
    Use {
        at: u16,
    },
    Judge {
        at: u16,
        reward: f32,
    },
    Pin {
        at: u16,
        pinned: bool,
    },
    Remove {
        at: u16,
    },
    Replace {
        at: u16,
        bytes: u32,
        hot: bool,
    },
    Move {
        at: u16,
        hot: bool,
    },
    Wait {
        us: u64,
    },
    Ask {
        rows: usize,
        bytes: u64,
    },
    Evict {
        rows: usize,
        bytes: u64,
    },
    Admit {
        at: u16,
    },
    Retrieve {
        at: u16,
        rows: u8,
    },
    Wish {
        rows: usize,
        granted: bool,
    },
}

/// What a step showed.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// An event was told.
    Told,
    /// The answer to a question for victims.
    Victims(Want, Vec<Verdict>),
    /// The answer about a cold row that was just used.
    Admitted(Item, Verdict),
    /// The answer to a question for wishes, so many at most.
    Wished(usize, Vec<Verdict>),
}

/// The policy and the truth beside it.
#[derive(Debug)]
pub struct Sim {
    /// The policy under test.
    pub policy: Box<dyn EvictionPolicy>,
    /// Every row there is.
    pub rows: BTreeMap<Row, Truth>,
    /// Now.
    pub now: Time,
    order: Vec<Row>,
    next: u64,
}

impl Sim {
    /// An empty tier at one second.
    pub fn new(policy: Box<dyn EvictionPolicy>) -> Self {
        Self {
            policy,
            rows: BTreeMap::new(),
            now: Time(1_000_000),
            order: Vec::new(),
            next: 1,
        }
    }

    /// The same truth beside another policy.
    pub fn fork(&self, policy: Box<dyn EvictionPolicy>) -> Self {
        Self {
            policy,
            rows: self.rows.clone(),
            now: self.now,
            order: self.order.clone(),
            next: self.next,
        }
    }

    /// Hot rows.
    pub fn hot(&self) -> impl Iterator<Item = (Row, Truth)> {
        let all = self.rows.iter().map(|(row, truth)| (*row, *truth));
        all.filter(|(_, truth)| truth.hot)
    }

    /// Bytes and number of the hot rows that are not pinned.
    pub fn movable(&self) -> (u64, usize) {
        let free = self.hot().filter(|(_, truth)| !truth.pinned);
        free.fold((0, 0), |(bytes, rows), (_, truth)| {
            (bytes + u64::from(truth.item.bytes), rows + 1)
        })
    }

    /// The tier as a policy is told of it.
    pub fn context(&self) -> Context {
        let hot_bytes = self.hot().map(|(_, t)| u64::from(t.item.bytes)).sum();
        Context {
            now: self.now,
            temperature: 1.0,
            hot_bytes,
            budget_bytes: hot_bytes.max(1 << 20),
        }
    }

    fn tell(&mut self, event: Event) -> Seen {
        self.policy.on_event(&event, self.now);
        Seen::Told
    }

    fn pick(&self, at: u16) -> Option<Truth> {
        let row = self.order.get(usize::from(at) % self.order.len().max(1))?;
        self.rows.get(row).copied()
    }

    /// Rows answer one search: each is used, and the policy hears that they were used together.
    pub fn retrieve(&mut self, rows: &[Row]) {
        let known = rows.iter().filter_map(|row| self.rows.get(row)).copied();
        for Truth { item, hot, .. } in known.collect::<Vec<_>>() {
            self.tell(match hot {
                true => Event::Accessed { row: item.row },
                false => Event::Missed { item },
            });
        }
        if rows.len() > 1 {
            self.policy.on_together(rows, self.now);
        }
    }

    /// Asks for wishes.
    pub fn wishes(&mut self, rows: usize) -> Vec<Verdict> {
        let context = self.context();
        self.policy.wishes(rows, &context)
    }

    fn forget(&mut self, row: Row) {
        self.rows.remove(&row);
        self.order.retain(|r| *r != row);
    }

    /// A new row.
    pub fn insert(&mut self, bytes: u32, restore_us: f32, hot: bool) -> Row {
        let item = self.fresh(bytes, restore_us, hot, false);
        let tier = tier(hot);
        self.tell(Event::Inserted { item, tier });
        item.row
    }

    fn fresh(&mut self, bytes: u32, restore_us: f32, hot: bool, pinned: bool) -> Item {
        let item = Item {
            row: Row(self.next),
            bytes,
            restore_us,
        };
        self.next += 1;
        let truth = Truth { item, hot, pinned };
        self.rows.insert(item.row, truth);
        self.order.push(item.row);
        item
    }

    /// A row changes its tier.
    pub fn shift(&mut self, row: Row, hot: bool) {
        if let Some(truth) = self.rows.get_mut(&row) {
            truth.hot = hot;
            let (item, to) = (truth.item, tier(hot));
            self.tell(Event::Moved { item, to });
        }
    }

    /// Asks for victims.
    pub fn ask(&mut self, rows: usize, bytes: u64) -> Vec<Verdict> {
        let context = self.context();
        self.policy.victims(Want { rows, bytes }, &context)
    }

    /// Lets one thing happen.
    pub fn step(&mut self, step: &Step) -> Option<Seen> {
        Some(match *step {
            Step::Insert {
                bytes,
                restore_us,
                hot,
            } => {
                self.insert(bytes, restore_us, hot);
                Seen::Told
            }
            Step::Use { at } => match self.pick(at)? {
                Truth {
                    item, hot: true, ..
                } => self.tell(Event::Accessed { row: item.row }),
                Truth { item, .. } => self.tell(Event::Missed { item }),
            },
            Step::Judge { at, reward } => {
                let row = self.pick(at)?.item.row;
                self.tell(Event::Feedback { row, reward })
            }
            Step::Pin { at, pinned } => {
                let row = self.pick(at)?.item.row;
                self.rows.get_mut(&row)?.pinned = pinned;
                self.tell(Event::Pinned { row, pinned })
            }
            Step::Remove { at } => {
                let row = self.pick(at)?.item.row;
                self.forget(row);
                self.tell(Event::Removed { row })
            }
            Step::Replace { at, bytes, hot } => {
                let old = self.pick(at)?;
                self.forget(old.item.row);
                let item = self.fresh(bytes, old.item.restore_us, hot, old.pinned);
                let (old, tier) = (old.item.row, tier(hot));
                self.tell(Event::Replaced { old, item, tier })
            }
            Step::Move { at, hot } => {
                let row = self.pick(at)?.item.row;
                self.shift(row, hot);
                Seen::Told
            }
            Step::Wait { us } => {
                self.now = Time(self.now.0.saturating_add(us));
                Seen::Told
            }
            Step::Ask { rows, bytes } => {
                let verdicts = self.ask(rows, bytes);
                Seen::Victims(Want { rows, bytes }, verdicts)
            }
            Step::Evict { rows, bytes } => {
                let verdicts = self.ask(rows, bytes);
                for verdict in &verdicts {
                    self.shift(verdict.row, false);
                }
                return None;
            }
            Step::Admit { at } => {
                let truth = self.pick(at)?;
                if truth.hot {
                    return None;
                }
                let context = self.context();
                Seen::Admitted(truth.item, self.policy.admit(&truth.item, &context))
            }
            Step::Retrieve { at, rows } => {
                let count = usize::from(rows).min(self.order.len());
                let from = usize::from(at) % self.order.len().max(1);
                let together: Vec<Row> = self
                    .order
                    .iter()
                    .cycle()
                    .skip(from)
                    .take(count)
                    .copied()
                    .collect();
                self.retrieve(&together);
                Seen::Told
            }
            Step::Wish { rows, granted } => {
                let wishes = self.wishes(rows);
                let before = Seen::Wished(rows, wishes.clone());
                if granted {
                    wishes.iter().for_each(|wish| self.shift(wish.row, true));
                    return None;
                }
                before
            }
        })
    }
}

fn tier(hot: bool) -> Tier {
    if hot { Tier::Hot } else { Tier::Cold }
}

/// Steps as they might happen.
pub fn step() -> impl Strategy<Value = Step> {
    let at = || any::<u16>();
    let bytes = || prop_oneof![3 => Just(1_600_u32), 1 => 1_u32..100_000];
    let mostly = || prop::bool::weighted(0.8);
    let rows = || prop_oneof![1 => Just(0_usize), 8 => 1_usize..40, 1 => Just(usize::MAX)];
    let wanted = || prop_oneof![3 => Just(0_u64), 3 => 1_u64..10_000, 2 => 1_u64..500_000, 1 => Just(u64::MAX)];
    prop_oneof![
        8 => (bytes(), 0.0_f32..1e6, mostly())
            .prop_map(|(bytes, restore_us, hot)| Step::Insert { bytes, restore_us, hot }),
        10 => at().prop_map(|at| Step::Use { at }),
        2 => (at(), 0.0_f32..=1.0).prop_map(|(at, reward)| Step::Judge { at, reward }),
        2 => (at(), any::<bool>()).prop_map(|(at, pinned)| Step::Pin { at, pinned }),
        2 => at().prop_map(|at| Step::Remove { at }),
        2 => (at(), bytes(), mostly()).prop_map(|(at, bytes, hot)| Step::Replace { at, bytes, hot }),
        3 => (at(), mostly()).prop_map(|(at, hot)| Step::Move { at, hot }),
        3 => (0_u64..3_600_000_000).prop_map(|us| Step::Wait { us }),
        4 => (rows(), wanted()).prop_map(|(rows, bytes)| Step::Ask { rows, bytes }),
        1 => (1_usize..10, wanted()).prop_map(|(rows, bytes)| Step::Evict { rows, bytes }),
        2 => at().prop_map(|at| Step::Admit { at }),
        4 => (at(), 0_u8..12).prop_map(|(at, rows)| Step::Retrieve { at, rows }),
        2 => (rows(), any::<bool>()).prop_map(|(rows, granted)| Step::Wish { rows, granted }),
    ]
}

/// Sequences of steps.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..250)
}

/// Seed of all random sequences: `AETHER_TESTKIT_SEED`, or 1.
pub fn seed() -> u64 {
    let given = std::env::var("AETHER_TESTKIT_SEED").ok();
    given.and_then(|s| s.parse().ok()).unwrap_or(1)
}

/// Runs a test over random input; a failure is shrunk and told with its seed.
///
/// # Panics
/// When the test fails.
pub fn over<S: Strategy>(strategy: S, test: impl Fn(S::Value) -> Result<(), String>) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => Config::default().cases,
        None => 64,
    };
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 4_096,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let outcome = TestRunner::new_with_rng(config, rng)
        .run(&strategy, |input| test(input).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!(
            "{why}\nshortest input that shows it (AETHER_TESTKIT_SEED={}):\n{input:#?}",
            seed()
        ),
        Err(TestError::Abort(why)) => panic!("the test was given up: {why}"),
    }
}

/// Runs random steps on fresh instances and shows each step's outcome to `look`.
///
/// # Panics
/// When `look` finds fault.
pub fn watch(harness: &PolicyHarness, look: impl Fn(&Sim, &Seen) -> Result<(), String>) {
    watch_steps(harness, steps(), look);
}

/// As [`watch`], over steps of another kind.
///
/// # Panics
/// When `look` finds fault.
pub fn watch_steps(
    harness: &PolicyHarness,
    steps: impl Strategy<Value = Vec<Step>>,
    look: impl Fn(&Sim, &Seen) -> Result<(), String>,
) {
    over(steps, |steps| {
        let mut sim = Sim::new(harness.build(7));
        steps.iter().try_for_each(|step| match sim.step(step) {
            Some(seen) => look(&sim, &seen),
            None => Ok(()),
        })
    });
}
