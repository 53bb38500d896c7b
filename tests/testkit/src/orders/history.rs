//! What callers did and saw at once, and whether it fits any order.
//!
//! An operation takes its effect at some instant between its call and its reply; one whose reply said nothing may have taken it at any
//! time since, or never. What was seen is right if instants can be chosen so that each operation saw what those before it left. The
//! search for them is Wing and Gong's with Lowe's memory of states that were tried ("Testing for linearizability", 2017).

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

/// What an operation did, as its caller knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// Wrote these points, each with its new version.
    Upsert(Vec<(u64, u64)>),
    /// Deleted these, of which so many were there, if that is known.
    Delete(Vec<u64>, Option<usize>),
    /// The time of these versions was up, as far as they were still there.
    End(Vec<(u64, u64)>),
    /// Saw these at one instant, each with its version, if it was there.
    Saw(Vec<(u64, Option<u64>)>),
}

/// Which operation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call(usize);

#[derive(Clone, Debug)]
struct Operation {
    who: usize,
    did: Did,
    called: u64,
    /// `None` where nobody knows whether and when it took effect.
    replied: Option<u64>,
}

/// Operations of one schedule.
#[derive(Clone, Debug, Default)]
pub struct History {
    before: BTreeMap<u64, u64>,
    /// An operation that had no effect and saw nothing is none.
    operations: Vec<Option<Operation>>,
    time: u64,
}

type State = Vec<Option<u64>>;

impl History {
    /// Begins with these points in their versions.
    pub fn new(before: BTreeMap<u64, u64>) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// A call begins; until [`History::replied`] it may have had its effect or not.
    pub fn called(&mut self, who: usize, did: Did) -> Call {
        let called = self.tick();
        self.operations.push(Some(Operation {
            who,
            did,
            called,
            replied: None,
        }));
        Call(self.operations.len() - 1)
    }

    /// A call has ended, and this is what it did.
    pub fn replied(&mut self, call: Call, did: Did) {
        let now = self.tick();
        if let Some(operation) = &mut self.operations[call.0] {
            operation.did = did;
            operation.replied = Some(now);
        }
    }

    /// A call has surely had no effect.
    pub fn undone(&mut self, call: Call) {
        self.operations[call.0] = None;
    }

    /// Something was seen between an instant and now.
    pub fn saw(&mut self, who: usize, called: u64, seen: Vec<(u64, Option<u64>)>) {
        let now = self.tick();
        self.saw_until(who, called, now, seen);
    }

    /// Something was seen between two instants.
    pub fn saw_until(
        &mut self,
        who: usize,
        called: u64,
        replied: u64,
        seen: Vec<(u64, Option<u64>)>,
    ) {
        self.operations.push(Some(Operation {
            who,
            did: Did::Saw(seen),
            called,
            replied: Some(replied),
        }));
    }

    /// The instant of now, for [`History::saw`].
    pub fn now(&mut self) -> u64 {
        self.tick()
    }

    /// Finds an order that explains everything.
    ///
    /// # Errors
    /// What happened, where there is none.
    ///
    /// # Panics
    /// With more than 128 operations.
    pub fn check(&self) -> Result<(), String> {
        let operations: Vec<&Operation> = self.operations.iter().flatten().collect();
        assert!(operations.len() <= 128, "{} operations", operations.len());
        let mut ids: Vec<u64> = self.before.keys().copied().collect();
        for operation in &operations {
            match &operation.did {
                Did::Upsert(points) | Did::End(points) => {
                    ids.extend(points.iter().map(|(id, _)| id));
                }
                Did::Delete(gone, _) => ids.extend(gone),
                Did::Saw(seen) => ids.extend(seen.iter().map(|(id, _)| id)),
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let state = ids.iter().map(|id| self.before.get(id).copied()).collect();
        let mut search = Search {
            operations: &operations,
            ids: &ids,
            tried: HashSet::new(),
            best: (0, Vec::new()),
        };
        if search.explains(0, state, &mut Vec::new()) {
            return Ok(());
        }
        let mut text = "no order explains what was seen:".to_owned();
        for (i, operation) in operations.iter().enumerate() {
            let Operation {
                who,
                did,
                called,
                replied,
            } = operation;
            let until = replied.map_or("?".to_owned(), |at| at.to_string());
            let placed = if search.best.1.contains(&i) {
                ""
            } else {
                "  <- not placed"
            };
            write!(text, "\n{called}..{until} by {who}: {did:?}{placed}")
                .expect("a String takes all");
        }
        Err(text)
    }
}

struct Search<'a> {
    operations: &'a [&'a Operation],
    ids: &'a [u64],
    tried: HashSet<(u128, State)>,
    /// The longest order so far.
    best: (usize, Vec<usize>),
}

impl Search<'_> {
    fn explains(&mut self, done: u128, state: State, order: &mut Vec<usize>) -> bool {
        if order.len() > self.best.0 {
            self.best = (order.len(), order.clone());
        }
        let waits = |i: usize| done & (1 << i) == 0;
        // Nothing that was called after another's reply goes before it.
        let replies = self.operations.iter().enumerate();
        let first = replies.filter(|(i, o)| waits(*i) && o.replied.is_some());
        let Some(first) = first.filter_map(|(_, o)| o.replied).min() else {
            return true;
        };
        if !self.tried.insert((done, state.clone())) {
            return false;
        }
        let may = |i: usize| waits(i) && self.operations[i].called <= first;
        // What saw the state as it is goes next, and nothing else needs to be tried: it changes nothing.
        let saw = |i: &usize| {
            let operation = &self.operations[*i];
            let sees = matches!(operation.did, Did::Saw(_));
            may(*i) && sees && self.applies(operation, &mut state.clone())
        };
        if let Some(i) = (0..self.operations.len()).find(saw) {
            order.push(i);
            let explained = self.explains(done | 1 << i, state, order);
            order.pop();
            return explained;
        }
        let next: Vec<usize> = (0..self.operations.len()).filter(|i| may(*i)).collect();
        for i in next {
            let mut next = state.clone();
            if self.applies(self.operations[i], &mut next) {
                order.push(i);
                if self.explains(done | 1 << i, next, order) {
                    return true;
                }
                order.pop();
            }
        }
        false
    }

    fn place(&self, id: u64) -> usize {
        self.ids.binary_search(&id).expect("all ids were gathered")
    }

    fn applies(&self, operation: &Operation, state: &mut State) -> bool {
        match &operation.did {
            Did::Upsert(points) => {
                for (id, version) in points {
                    state[self.place(*id)] = Some(*version);
                }
                true
            }
            Did::Delete(ids, count) => {
                let there = ids
                    .iter()
                    .filter(|id| state[self.place(**id)].take().is_some());
                let there = there.count();
                count.is_none_or(|count| count == there)
            }
            Did::End(versions) => {
                for (id, version) in versions {
                    let place = self.place(*id);
                    state[place].take_if(|there| there == version);
                }
                true
            }
            Did::Saw(seen) => seen
                .iter()
                .all(|(id, version)| state[self.place(*id)] == *version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        History::new(BTreeMap::from([(1, 10), (2, 20)]))
    }

    fn write(history: &mut History, did: Did) {
        let call = history.called(0, did.clone());
        history.replied(call, did);
    }

    fn see(history: &mut History, seen: &[(u64, Option<u64>)]) {
        let now = history.now();
        history.saw(1, now, seen.to_vec());
    }

    #[test]
    fn what_fits_some_order_is_right() {
        let mut h = history();
        // Seen in both states while it is under way, first the old one.
        let call = h.called(0, Did::Upsert(vec![(1, 11), (2, 21)]));
        see(&mut h, &[(1, Some(10)), (2, Some(20))]);
        see(&mut h, &[(1, Some(11)), (2, Some(21))]);
        h.replied(call, Did::Upsert(vec![(1, 11), (2, 21)]));
        // A time that is up ends the version that it was set for.
        write(&mut h, Did::End(vec![(1, 10), (2, 20)]));
        // Two deletions at once: only one of them finds it.
        let a = h.called(0, Did::Delete(vec![1], None));
        let b = h.called(1, Did::Delete(vec![1], None));
        h.replied(a, Did::Delete(vec![1], Some(0)));
        h.replied(b, Did::Delete(vec![1], Some(1)));
        see(&mut h, &[(1, None), (2, Some(21))]);
        h.check().unwrap();
    }

    #[test]
    fn what_nobody_heard_of_may_have_happened_or_not() {
        for seen in [Some(10), Some(11)] {
            let mut h = history();
            h.called(0, Did::Upsert(vec![(1, 11)]));
            see(&mut h, &[(1, seen)]);
            h.check().unwrap();
        }
        let mut h = history();
        let call = h.called(0, Did::Upsert(vec![(1, 11)]));
        h.undone(call);
        see(&mut h, &[(1, Some(11))]);
        h.check().unwrap_err();
    }

    #[test]
    fn planted_mistakes_are_found() {
        type Plant = fn(&mut History);
        let planted: [(&str, Plant); 7] = [
            ("an older version", |h| {
                write(h, Did::Upsert(vec![(1, 11)]));
                see(h, &[(1, Some(10))]);
            }),
            ("a gap", |h| see(h, &[(1, None)])),
            ("a ghost", |h| {
                write(h, Did::Delete(vec![1], Some(1)));
                see(h, &[(1, Some(10))]);
            }),
            ("half a batch", |h| {
                let call = h.called(0, Did::Upsert(vec![(1, 11), (2, 21)]));
                see(h, &[(1, Some(11)), (2, Some(20))]);
                h.replied(call, Did::Upsert(vec![(1, 11), (2, 21)]));
            }),
            ("back again", |h| {
                let call = h.called(0, Did::Upsert(vec![(1, 11)]));
                see(h, &[(1, Some(11))]);
                see(h, &[(1, Some(10))]);
                h.replied(call, Did::Upsert(vec![(1, 11)]));
            }),
            ("deleted twice", |h| {
                write(h, Did::Delete(vec![1], Some(1)));
                write(h, Did::Delete(vec![1], Some(1)));
            }),
            ("a lost write", |h| {
                write(h, Did::Upsert(vec![(1, 11)]));
                h.called(0, Did::Upsert(vec![(1, 12)]));
                see(h, &[(1, Some(10))]);
            }),
        ];
        for (name, plant) in planted {
            let mut h = history();
            plant(&mut h);
            let error = h.check().expect_err(name);
            assert!(error.contains("not placed"), "{name}: {error}");
        }
    }
}
