//! What must be true after a kill.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use aether::config::SearchMode;
use aether::role::Fidelity;
use aether::{BlockingMemory, Metric, Parts, PointId, Record, SearchRequest, Stats};

use super::script::{
    Line, Op, PLACES, Place, Version, WORKERS, config_of, id_of, mix, operation, payload_of,
    vector_of,
};

/// The points as the acknowledgements say, and the operations whose acknowledgement the kill cut off.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    live: BTreeMap<Place, Version>,
    open: BTreeMap<u64, Op>,
    pub acknowledged: u64,
    /// Unacknowledged writes that were found done, and not done.
    pub completed: u64,
    pub undone: u64,
}

impl Oracle {
    /// Takes note of what a child with this seed said.
    pub(crate) fn hear(&mut self, seed: u64, line: Line) {
        match line {
            Line::Opened => {}
            Line::Begun(worker, number) => {
                let former = self.open.insert(worker, operation(seed, worker, number));
                assert!(former.is_none(), "worker {worker} began twice");
            }
            Line::Done(worker, _) => {
                let op = self.open.remove(&worker).unwrap();
                self.acknowledged += 1;
                self.apply(&op);
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        for (place, version) in op.effect() {
            match version {
                Some(version) => self.live.insert(place, version),
                None => self.live.remove(&place),
            };
        }
    }

    fn expected(&self, place: Place) -> Option<Version> {
        self.live.get(&place).copied()
    }

    /// Opens the memory, compares all of it, closes it, and verifies every byte of it. Answers its figures.
    pub(crate) fn verify(&mut self, folder: &Path, hot: &str) -> Stats {
        let config = config_of(folder, hot);
        let registry = Arc::new(aether::registry().unwrap());
        let memory = aether::MemoryBuilder::new(config.clone(), registry.clone())
            .open_blocking()
            .unwrap();
        let found = read_all(&memory);
        self.resolve(&found);
        for place in 0..WORKERS * PLACES {
            let (expected, record) = (self.expected(place), found.get(&place));
            assert!(
                matches(place, expected, record),
                "point {place} ({}): expected version {expected:?}, found {record:?}",
                id_of(place)
            );
        }
        self.compare_searches(&memory);
        let stats = memory.stats();
        assert_eq!(stats.points as usize, self.live.len(), "points counted");
        assert!(stats.hot_bytes <= stats.budget_bytes, "{stats:?}");
        memory.close().unwrap();
        drop(memory);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let report = runtime.block_on(aether::check(&config, registry)).unwrap();
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!(report.points as usize, self.live.len());
        assert_eq!((report.orphans, report.intents), (0, 0), "{report:#?}");
        stats
    }

    /// An operation without acknowledgement happened as a whole or not at all.
    fn resolve(&mut self, found: &BTreeMap<Place, Record>) {
        for op in std::mem::take(&mut self.open).into_values() {
            let effect = op.effect();
            let done = effect
                .iter()
                .all(|(place, version)| matches(*place, *version, found.get(place)));
            let undone = effect
                .iter()
                .all(|(place, _)| matches(*place, self.expected(*place), found.get(place)));
            assert!(
                done || undone,
                "neither all nor nothing of an unacknowledged batch is there: {op:?}"
            );
            if effect.is_empty() || (done && undone) {
                continue;
            }
            self.completed += u64::from(done);
            self.undone += u64::from(undone);
            if done {
                self.apply(&op);
            }
        }
    }

    /// Every live point is found exactly once, nothing else is, and the nearest are the nearest.
    fn compare_searches(&self, memory: &BlockingMemory) {
        let query = vector_of(mix(&[self.acknowledged]));
        let mut truth: Vec<(f32, PointId)> = self
            .live
            .iter()
            .map(|(p, v)| (Metric::L2.distance(&query, &vector_of(*v)), id_of(*p)))
            .collect();
        truth.sort_by(|a, b| a.0.total_cmp(&b.0));
        let request = SearchRequest::new(query, truth.len() + 1).mode(SearchMode::Complete);
        let answer = memory.search(request).unwrap();
        assert!(answer.coverage.is_whole(), "{:?}", answer.coverage);
        let ids: BTreeSet<_> = answer.hits.iter().map(|h| h.id.clone()).collect();
        assert_eq!(ids.len(), answer.hits.len(), "a point was found twice");
        assert_eq!(ids, truth.iter().map(|t| t.1.clone()).collect());
        let nearest = |n: usize| truth.iter().take(n).map(|t| &t.1).collect::<HashSet<_>>();
        let first: HashSet<_> = answer.hits.iter().take(10).map(|h| &h.id).collect();
        assert_eq!(first, nearest(10), "the ten nearest");
    }
}

fn matches(place: Place, expected: Option<Version>, record: Option<&Record>) -> bool {
    match (expected, record) {
        (None, None) => true,
        (Some(version), Some(record)) => {
            record.id == id_of(place)
                && record.vector.as_ref() == Some(&vector_of(version))
                && record.payload == payload_of(version)
                && record.fidelity == Fidelity::Exact
        }
        _ => false,
    }
}

fn read_all(memory: &BlockingMemory) -> BTreeMap<Place, Record> {
    let ids: Vec<_> = (0..WORKERS * PLACES).map(id_of).collect();
    let records = memory.get_many(&ids, Parts::default()).unwrap();
    let found = (0..).zip(records);
    found.filter_map(|(p, r)| r.map(|r| (p, r))).collect()
}
