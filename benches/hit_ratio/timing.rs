//! Nanoseconds that a policy takes for an access, at a million hot rows.
//!
//! **What is counted** is the policy alone. A first run decides by the policy's answers which calls a hot tier makes to it, and writes them
//! down. A second instance of the same seed is then called in the same order, and the time of its calls is taken: for a hit the event; for
//! a miss the event, `admit`, `victim`, and the two moves; and `prefetch` of 32 requests at a time, as the engine, which hands events over in
//! batches, and the replay call it (`without` leaves it out). The calls are read in order from memory; drawing the requests and keeping
//! the hot tier are not counted. Its answers are compared, so that both instances are known to have done the same.

use std::sync::Arc;
use std::time::Instant;

use aether::clock::Time;
use aether::replay::Choice;
use aether::role::{Context, Event, EvictionPolicy, Item, PREFETCH_MAX, Tier};
use aether::{Registry, Row};

use crate::aims::Aims;

/// Hot rows.
const ITEMS: u64 = 1_000_000;
/// Timed requests.
const TIMED: u64 = 4_000_000;
/// Time to read a row back that policies are told.
const RESTORE_US: f32 = 100.0;

/// A call of the policy, about the row of that number.
#[derive(Clone, Copy, Debug)]
enum Call {
    Used(u32),
    /// `Missed`, then `admit`.
    Missed(u32),
    /// `victim`, which must answer this row.
    Victim(u32),
    Left(u32),
    Entered(u32),
}

fn item(row: u32) -> Item {
    Item {
        row: Row(u64::from(row)),
        bytes: 1,
        restore_us: RESTORE_US,
    }
}

/// Makes calls to a policy and keeps time and fill as a replay does.
struct Caller {
    policy: Box<dyn EvictionPolicy>,
    now: Time,
    used: u64,
}

impl Caller {
    fn new(policy: Box<dyn EvictionPolicy>) -> Self {
        Self {
            policy,
            now: Time(0),
            used: 0,
        }
    }

    fn context(&self) -> Context {
        Context {
            now: self.now,
            temperature: 1.0,
            hot_bytes: self.used,
            budget_bytes: ITEMS,
        }
    }

    /// A use; answers whether a cold row is let in whatever must leave, and what it is worth.
    fn access(&mut self, row: u32, hot: bool) -> (bool, f64) {
        self.now.0 += 1_000_000;
        if hot {
            let row = Row(u64::from(row));
            self.policy.on_event(&Event::Accessed { row }, self.now);
            return (true, 0.0);
        }
        let item = item(row);
        self.policy.on_event(&Event::Missed { item }, self.now);
        let verdict = self.policy.admit(&item, &self.context());
        (verdict.certain, verdict.keep)
    }

    fn moved(&mut self, row: u32, to: Tier) {
        match to {
            Tier::Hot => self.used += 1,
            Tier::Cold => self.used -= 1,
        }
        let item = item(row);
        self.policy.on_event(&Event::Moved { item, to }, self.now);
    }

    /// Makes calls again, in whose order `rows` are used; answers how many victims were other rows than they were.
    fn again(&mut self, calls: &[Call], rows: &[Row], prefetch: bool) -> u64 {
        let (mut others, mut used) = (0, 0);
        for call in calls {
            if prefetch && matches!(call, Call::Used(_) | Call::Missed(_)) {
                if used % PREFETCH_MAX == 0 {
                    let ahead = &rows[used..];
                    self.policy
                        .prefetch(&ahead[..ahead.len().min(PREFETCH_MAX)]);
                }
                used += 1;
            }
            match *call {
                Call::Used(row) => {
                    self.access(row, true);
                }
                Call::Missed(row) => {
                    std::hint::black_box(self.access(row, false));
                }
                Call::Victim(row) => {
                    let victim = self.policy.victim(1, &self.context());
                    others += u64::from(victim.is_none_or(|v| v.row.0 != u64::from(row)));
                }
                Call::Left(row) => self.moved(row, Tier::Cold),
                Call::Entered(row) => self.moved(row, Tier::Hot),
            }
        }
        others
    }
}

/// The calls that a tier of [`ITEMS`] rows makes, the number of those of the first [`ITEMS`] requests, and the misses of the others.
fn calls(policy: Box<dyn EvictionPolicy>, keys: &[u64]) -> (Vec<Call>, usize, u64) {
    let mut caller = Caller::new(policy);
    let mut hot = vec![false; 2 * ITEMS as usize];
    let (mut calls, mut filled, mut misses) = (Vec::new(), 0, 0);
    for (at, key) in (0..).zip(keys) {
        if at == ITEMS {
            (filled, misses) = (calls.len(), 0);
        }
        let row = *key as u32;
        let is_hot = hot[row as usize];
        let (certain, keep) = caller.access(row, is_hot);
        if is_hot {
            calls.push(Call::Used(row));
            continue;
        }
        misses += 1;
        calls.push(Call::Missed(row));
        if caller.used == ITEMS {
            let context = caller.context();
            let Some(victim) = caller.policy.victim(1, &context) else {
                continue;
            };
            let leaving = victim.row.0 as u32;
            calls.push(Call::Victim(leaving));
            if !(victim.certain || certain || victim.keep < keep) {
                continue;
            }
            hot[leaving as usize] = false;
            calls.push(Call::Left(leaving));
            caller.moved(leaving, Tier::Cold);
        }
        hot[row as usize] = true;
        calls.push(Call::Entered(row));
        caller.moved(row, Tier::Hot);
    }
    (calls, filled, misses)
}

/// Zipf's law over `keys` by inversion of the continuous law, exponent 0.8: O(1) a draw without a table.
fn zipf(rng: &mut fastrand::Rng, keys: u64) -> u64 {
    const REST: f64 = 0.2;
    let top = (keys as f64 + 1.0).powf(REST);
    let at = (1.0 + rng.f64() * (top - 1.0)).powf(1.0 / REST);
    // Ranks are scattered over the keys, so that popular ones are not neighbours in any table.
    (at as u64 - 1) * 1_000_003 % keys
}

/// What any policy has to do on this machine at least: find a row by its number among a million, and follow links from there, each
/// known only when the one before has come out of memory. A line a number of links; nothing else is done, no miss among them.
fn bare(keys: &[u64]) {
    const PLACES: u64 = 2 * ITEMS.next_power_of_two();
    let place = |key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PLACES.ilog2());
    let mut table = vec![(u64::MAX, 0_u32); PLACES as usize];
    // Places of the records are drawn, as those of rows that came and went are.
    let mut slots: Vec<u32> = (0..ITEMS as u32).collect();
    fastrand::Rng::with_seed(5).shuffle(&mut slots);
    for (key, slot) in (0..ITEMS).zip(&slots) {
        let mut at = place(key) as usize;
        while table[at].0 != u64::MAX {
            at = (at + 1) % table.len();
        }
        table[at] = (key, *slot);
    }
    // As large as a row's record with links.
    let records: Vec<[u32; 8]> = slots.iter().map(|link| [*link; 8]).collect();
    for links in 0..4 {
        let begun = Instant::now();
        let mut sum = 0;
        for key in keys {
            let mut at = place(*key) as usize;
            while table[at].0 != *key {
                at = (at + 1) % table.len();
            }
            let mut slot = table[at].1;
            for _ in 0..links {
                slot = records[slot as usize][0];
            }
            sum += u64::from(slot);
        }
        let ns = begun.elapsed().as_nanos() as f64 / keys.len() as f64;
        std::hint::black_box(sum);
        println!("a hash lookup and {links} loads one after the other: {ns:>4.0} ns");
    }
}

/// A line a policy.
pub(crate) fn run(registry: &Arc<Registry>, policies: &str, aims: &mut Aims) {
    println!(
        "time of the policy alone per access at {ITEMS} hot rows, one after the other: Zipf 0.8 over twice as many keys"
    );
    let mut rng = fastrand::Rng::with_seed(7);
    let keys: Vec<u64> = (0..ITEMS)
        .chain((0..TIMED).map(|_| zipf(&mut rng, ITEMS * 2)))
        .collect();
    let hits: Vec<u64> = keys.iter().copied().filter(|k| *k < ITEMS).collect();
    bare(&hits[ITEMS as usize..]);
    let rows: Vec<Row> = keys.iter().map(|key| Row(*key)).collect();
    println!(
        "{:<24} {:>8} {:>8} {:>9} {:>8}",
        "policy", "ns", "without", "miss", "meta B"
    );
    for choice in Choice::list(policies).unwrap() {
        let build = || choice.build(registry, 1).unwrap();
        let (calls, filled, misses) = calls(build(), &keys);
        let timed = |prefetch| {
            let mut caller = Caller::new(build());
            let (first, later) = rows.split_at(ITEMS as usize);
            let mut others = caller.again(&calls[..filled], first, prefetch);
            let begun = Instant::now();
            others += caller.again(&calls[filled..], later, prefetch);
            let took = begun.elapsed();
            assert_eq!(others, 0, "{}: two runs of one seed differ", choice.text());
            (took.as_nanos() as f64 / TIMED as f64, caller.policy)
        };
        let (without, _) = timed(false);
        let (ns, policy) = timed(true);
        aims.time(choice.text(), ns);
        println!(
            "{:<24} {ns:>8.0} {without:>8.0} {:>9.6} {:>8.1}",
            choice.text(),
            misses as f64 / TIMED as f64,
            policy.bytes() as f64 / policy.len().max(1) as f64
        );
    }
    println!();
}
