use std::collections::VecDeque;

use super::*;
use crate::error::Error;
use crate::role::Want;

/// Oldest out; every used row comes in. `explain` tells the place in the queue.
#[derive(Debug, Default)]
struct Queue(VecDeque<Row>);

impl EvictionPolicy for Queue {
    fn on_event(&mut self, event: &Event, _now: Time) {
        match event {
            Event::Inserted {
                item,
                tier: Tier::Hot,
            }
            | Event::Moved {
                item,
                to: Tier::Hot,
            } => self.0.push_back(item.row),
            Event::Moved { item, .. } => self.0.retain(|r| *r != item.row),
            Event::Replaced { old, item, tier } => {
                self.0.retain(|r| r != old);
                if *tier == Tier::Hot {
                    self.0.push_back(item.row);
                }
            }
            Event::Removed { row } => self.0.retain(|r| r != row),
            _ => {}
        }
    }
    fn victims(&mut self, want: Want, _: &Context) -> Vec<Verdict> {
        let rows = self.0.iter().take(want.rows);
        rows.map(|row| verdict(*row)).collect()
    }
    fn admit(&mut self, candidate: &Item, _: &Context) -> Verdict {
        verdict(candidate.row)
    }
    fn explain(&self, row: Row, _: &Context) -> Explanation {
        Explanation {
            row,
            known: self.0.contains(&row),
            keep: None,
            figures: Vec::new(),
            words: "in the queue".to_owned(),
        }
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn bytes(&self) -> u64 {
        0
    }
    fn bytes_after(&self, _: usize) -> u64 {
        0
    }
    fn save(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|r| out.extend(r.0.to_le_bytes()));
    }
    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let (words, []) = bytes.as_chunks::<8>() else {
            return Err(Error::corrupt("a queue is made of words"));
        };
        self.0 = words.iter().map(|w| Row(u64::from_le_bytes(*w))).collect();
        Ok(())
    }
}

fn verdict(row: Row) -> Verdict {
    Verdict {
        row,
        keep: 0.0,
        certain: true,
        reason: "in turn",
    }
}

fn shadows(sample: f64, rows: u64) -> Shadows {
    let config = ShadowConfig {
        sample,
        read_usd: 0.5,
        write_usd: 8.0,
        ..ShadowConfig::default()
    };
    let policies: Vec<(String, Box<dyn EvictionPolicy>)> =
        vec![("queue".to_owned(), Box::new(Queue::default()))];
    let mut shadows = Shadows::new(&config, 4, 100, policies);
    shadows.resize(rows, 1000.0);
    shadows
}

fn missed(row: u64) -> Event {
    Event::Missed {
        item: Item {
            row: Row(row),
            bytes: 100,
            restore_us: 1000.0,
        },
    }
}

#[test]
fn a_shadow_keeps_a_tier_of_its_own_and_counts_by_its_own_hits() {
    let mut all = shadows(1.0, 2);
    // The live tier missed 1 and 2 and then had them; the shadow has them too, until 3 pushes 1 out.
    for event in [missed(1), missed(2)] {
        all.hear(&event, Time(1));
    }
    all.hear(&Event::Accessed { row: Row(1) }, Time(2));
    all.hear(&missed(3), Time(3));
    all.hear(&Event::Accessed { row: Row(1) }, Time(4));
    let stats = &all.stats()[0];
    assert_eq!((stats.accesses, stats.hits, stats.live_hits), (5, 1, 2));
    assert_eq!((stats.promoted, stats.demoted, stats.rows), (4, 2, 2));
    assert_eq!(stats.hit_rate(), Some(0.2));
    // Four reads at half a dollar, half a segment at eight; 0.8 of the accesses wait a millisecond.
    assert_eq!((stats.usd, stats.read_us_per_access), (6.0, 800.0));
    let tier = |row| all.explain("queue", Row(row), Time(4)).unwrap().0;
    assert_eq!([1, 2].map(tier), [Some(Tier::Hot), Some(Tier::Cold)]);
    assert!(all.explain("lru", Row(1), Time(4)).is_none());
}

/// A policy that does what the live one does has its figures too: hits, moves, dollars and time of reading.
#[test]
fn the_live_policy_is_counted_on_the_same_rows_by_the_same_arithmetic() {
    let mut all = shadows(1.0, 2);
    let moved = |row, to| Event::Moved {
        item: Item {
            row: Row(row),
            bytes: 100,
            restore_us: 1000.0,
        },
        to,
    };
    // The live tier is a queue of two as well.
    let events = [
        missed(1),
        moved(1, Tier::Hot),
        missed(2),
        moved(2, Tier::Hot),
        Event::Accessed { row: Row(1) },
        missed(3),
        moved(1, Tier::Cold),
        moved(3, Tier::Hot),
        missed(1),
        moved(2, Tier::Cold),
        moved(1, Tier::Hot),
    ];
    for (event, at) in events.iter().zip(1..) {
        all.hear(event, Time(at));
    }
    let stats = &all.stats()[0];
    let own = (stats.hits, stats.promoted, stats.demoted);
    let live = (stats.live_hits, stats.live_promoted, stats.live_demoted);
    assert_eq!((own, live), ((1, 4, 2), (1, 4, 2)));
    let own = (stats.usd, stats.read_us_per_access);
    let live = (stats.live_usd, stats.live_read_us_per_access);
    assert_eq!((own, live), ((6.0, 800.0), (6.0, 800.0)));
    // A row that found no room in the live tier went to the cold one in a segment too.
    let Event::Missed { item } = missed(7) else {
        unreachable!()
    };
    let tier = Tier::Cold;
    all.hear(&Event::Inserted { item, tier }, Time(20));
    let stats = &all.stats()[0];
    assert_eq!((stats.live_demoted, stats.live_usd), (3, 8.0));
}

#[test]
fn moves_of_rows_outside_the_sample_do_not_count() {
    let mut all = shadows(0.1, 1_000);
    for row in 0..50_000 {
        let Event::Missed { item } = missed(row) else {
            unreachable!()
        };
        let to = Tier::Hot;
        all.hear(&Event::Moved { item, to }, Time(row));
    }
    let moved = all.stats()[0].live_promoted;
    // As many as are looked at: five standard deviations are 335.
    assert!((4_665..=5_335).contains(&moved), "{moved}");
    assert_eq!(all.stats()[0].rows, 0);
}

#[test]
fn new_rows_enter_replaced_and_removed_ones_leave() {
    let mut all = shadows(1.0, 2);
    let item = |row| Item {
        row: Row(row),
        bytes: 100,
        restore_us: 0.0,
    };
    let inserted = |row| Event::Inserted {
        item: item(row),
        tier: Tier::Hot,
    };
    (1..=3).for_each(|row| all.hear(&inserted(row), Time(1)));
    let replaced = Event::Replaced {
        old: Row(2),
        item: item(9),
        tier: Tier::Hot,
    };
    all.hear(&replaced, Time(2));
    let tier = |all: &Shadows, row| all.explain("queue", Row(row), Time(2)).unwrap().0;
    let tiers = [1, 2, 3, 9].map(|r| tier(&all, r).unwrap());
    assert_eq!(tiers, [Tier::Cold, Tier::Cold, Tier::Hot, Tier::Hot]);
    // The new version needed no room, and the policy heard that it is one.
    assert_eq!(all.stats()[0].demoted, 1);
    let known = |row| all.explain("queue", Row(row), Time(2)).unwrap().1.known;
    assert_eq!([2, 3, 9].map(known), [false, true, true]);
    all.hear(&Event::Removed { row: Row(3) }, Time(3));
    assert_eq!(all.stats()[0].rows, 1);
    // Moves of the live tier say nothing about the shadow's.
    let moved = Event::Moved {
        item: item(9),
        to: Tier::Cold,
    };
    all.hear(&moved, Time(4));
    assert_eq!(tier(&all, 9), Some(Tier::Hot));
    assert_eq!(all.stats()[0].accesses, 0);
}

#[test]
fn a_sample_is_about_its_share_of_the_rows_and_always_the_same_rows() {
    let mut all = shadows(0.1, 10_000);
    (0..50_000).for_each(|row| all.hear(&missed(row), Time(row)));
    let stats = &all.stats()[0];
    assert_eq!(stats.capacity_rows, 1_000);
    // 5,000 expected; five standard deviations are 335.
    assert!(
        (4_665..=5_335).contains(&stats.accesses),
        "{}",
        stats.accesses
    );
    let once = stats.accesses;
    (0..50_000).for_each(|row| all.hear(&missed(row), Time(50_000 + row)));
    assert_eq!(all.stats()[0].accesses, once * 2);
    let out = (0..).find(|r| !all.sampled(Row(*r))).unwrap();
    let (tier, explained) = all.explain("queue", Row(out), Time(0)).unwrap();
    assert_eq!(tier, None);
    assert!(
        explained.words.contains("not in the sample of 10%"),
        "{}",
        explained.words
    );
}

#[test]
fn saved_shadows_go_on_and_damage_or_other_settings_begin_anew() {
    let mut all = shadows(1.0, 2);
    (1..=3).for_each(|row| all.hear(&missed(row), Time(row)));
    let saved = all.save();
    let mut again = shadows(1.0, 2);
    again.load(&saved[0].0, &saved[0].1).unwrap();
    assert_eq!(again.stats(), all.stats());
    for copy in [&mut all, &mut again] {
        copy.hear(&missed(4), Time(9));
    }
    assert_eq!(again.save(), all.save());
    let mut damaged = saved[0].1.clone();
    damaged[50] ^= 1;
    let mut fresh = shadows(1.0, 2);
    assert!(fresh.load("queue", &damaged).is_err());
    assert!(shadows(0.5, 2).load("queue", &saved[0].1).is_err());
    assert_eq!(fresh.stats()[0].accesses, 0);
    fresh.load("another", &damaged).unwrap();
}
