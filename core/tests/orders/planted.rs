//! Mistakes that only some orders show, planted in the stores below the turns: each must be found.

use std::ops::Range;
use std::sync::Arc;

use aether_core::role::{
    Batch, BlobInfo, ColdStore, Epoch, KeyRange, MetaCapability, MetaStore, Op, Seq, Table,
};
use aether_core::{BlobKey, Result};
use aether_testkit::orders::Turns;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::play::{Plant, find};
use super::scenario::Scenario;
use crate::common::{Settings, Stores};

/// What is wrong with a metadata store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// Readers see the first half of a batch before the second.
    Halves,
    /// Says that commits are synced, and syncs none.
    SyncsNever,
    /// Answers reads from the state before the last commit.
    Behind,
    /// Blobs of segments that a commit retires go at once, whoever reads them.
    SweepsAtOnce,
}

#[derive(Debug)]
struct Meta {
    inner: Arc<dyn MetaStore>,
    cold: Arc<dyn ColdStore>,
    turns: Turns,
    wrong: Wrong,
    /// What the last commit replaced: keys with their former values.
    before: Mutex<Vec<(Table, Bytes, Option<Bytes>)>>,
}

fn key_of(op: &Op) -> (Table, Bytes) {
    match op {
        Op::Put(table, key, _) | Op::Delete(table, key) => (*table, key.clone()),
    }
}

impl Meta {
    async fn in_halves(&self, mut batch: Batch) -> Result<Seq> {
        let mut rest = Batch::new(batch.epoch);
        rest.ops = batch.ops.split_off(batch.ops.len() / 2);
        self.inner.commit(batch).await?;
        self.turns.turn("half of it").await;
        self.inner.commit(rest).await
    }

    async fn note_before(&self, batch: &Batch) -> Result<()> {
        let mut before = Vec::new();
        for (table, key) in batch.ops.iter().map(key_of) {
            let old = self.inner.get(table, std::slice::from_ref(&key)).await?;
            before.push((table, key, old.into_iter().next().flatten()));
        }
        *self.before.lock() = before;
        Ok(())
    }

    async fn sweep(&self, batch: &Batch) -> Result<()> {
        let mut retired = Vec::new();
        for op in &batch.ops {
            if let Op::Delete(Table::Segments, key) = op {
                let entry = self.inner.get(Table::Segments, std::slice::from_ref(key));
                retired.extend(entry.await?.into_iter().flatten());
            }
        }
        if retired.is_empty() {
            return Ok(());
        }
        for blob in self.cold.list("").await? {
            let name = blob.key.as_str().as_bytes();
            if retired
                .iter()
                .any(|entry| entry.windows(name.len()).any(|w| w == name))
            {
                self.cold.delete(&blob.key).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl MetaStore for Meta {
    async fn claim(&self) -> Result<Epoch> {
        self.inner.claim().await
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let mut values = self.inner.get(table, keys).await?;
        if self.wrong == Wrong::Behind {
            let before = self.before.lock();
            for (key, value) in keys.iter().zip(&mut values) {
                if let Some(old) = before.iter().find(|(t, k, _)| *t == table && k == key) {
                    value.clone_from(&old.2);
                }
            }
        }
        Ok(values)
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        self.inner.scan(table, range, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<Seq> {
        match self.wrong {
            Wrong::Halves => return self.in_halves(batch).await,
            Wrong::Behind => self.note_before(&batch).await?,
            Wrong::SweepsAtOnce => self.sweep(&batch).await?,
            Wrong::SyncsNever => {}
        }
        self.inner.commit(batch).await
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        if self.wrong == Wrong::SyncsNever {
            return Ok(());
        }
        self.inner.durable(seq).await
    }

    fn capability(&self) -> MetaCapability {
        self.inner.capability()
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// A cold store that answers a put before the blob is there.
#[derive(Debug)]
struct AnswersEarly {
    inner: Arc<dyn ColdStore>,
    turns: Turns,
}

#[async_trait]
impl ColdStore for AnswersEarly {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        let (inner, turns, key) = (self.inner.clone(), self.turns.clone(), key.clone());
        tokio::spawn(async move {
            turns.turn("puts at last").await;
            inner.put(&key, data).await
        });
        Ok(())
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        self.inner.read(key, ranges).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.inner.size(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.inner.list(prefix).await
    }
}

fn meta(wrong: Wrong, (inner, cold): Stores, turns: &Turns) -> Stores {
    let meta = Meta {
        inner,
        cold: cold.clone(),
        turns: turns.clone(),
        wrong,
        before: Mutex::default(),
    };
    (Arc::new(meta), cold)
}

/// Plays schedules until the mistake is found.
fn must_find(scenario: &Scenario, plant: Plant, words: &[&str]) {
    let (schedules, what) = find(scenario, plant, 2_000).expect("a planted mistake is found");
    println!("{}: found in schedule {schedules}", scenario.name);
    assert!(words.iter().any(|word| what.contains(word)), "{what}");
}

#[test]
fn planted_a_batch_that_readers_see_in_halves() {
    let scenario = Scenario::commits_demotions_deletions_and_searches();
    let plant: Plant = |stores, turns| meta(Wrong::Halves, stores, turns);
    must_find(
        &scenario,
        plant,
        &["no order explains", "failed", "not whole"],
    );
}

#[test]
fn planted_a_store_that_is_behind() {
    let scenario = Scenario::promotions_and_deletions();
    let plant: Plant = |stores, turns| meta(Wrong::Behind, stores, turns);
    must_find(&scenario, plant, &["no order explains", "failed"]);
}

#[test]
fn planted_a_store_that_never_syncs() {
    let scenario = Scenario::commits_demotions_deletions_and_searches();
    let plant: Plant = |stores, turns| meta(Wrong::SyncsNever, stores, turns);
    must_find(&scenario, plant, &["no order explains"]);
}

#[test]
fn planted_segments_that_go_while_they_are_read() {
    let scenario = Scenario::compaction_and_readers();
    let plant: Plant = |stores, turns| meta(Wrong::SweepsAtOnce, stores, turns);
    must_find(&scenario, plant, &["cut short", "get failed", "missing"]);
}

#[test]
fn planted_a_put_that_is_answered_too_early() {
    let scenario = Scenario::commits_demotions_deletions_and_searches();
    let plant: Plant = |(meta, inner), turns| {
        let turns = turns.clone();
        (meta, Arc::new(AnswersEarly { inner, turns }))
    };
    must_find(&scenario, plant, &["cut short", "failed", "not whole"]);
}

/// A tier that takes more than it tells: without room to spare, that is beyond the budget. It is looked at before each turn in the one kind of
/// scenario, and after what clients do in the other.
#[test]
fn planted_a_tier_that_takes_more_than_it_tells() {
    for tight in [true, false] {
        let scenario = Scenario {
            tight,
            hidden: 1 << 10,
            ..Scenario::no_room_in_ram()
        };
        must_find(&scenario, |stores, _| stores, &["over the budget"]);
    }
}

#[test]
fn planted_indexes_that_reckon_wrongly() {
    for hot in ["forgets", "hides"] {
        for scenario in [
            Scenario::no_room_in_ram(),
            Scenario::no_room_and_the_memory_s_own_tasks(),
        ] {
            let settings = Settings {
                hot,
                ..scenario.settings.clone()
            };
            let scenario = Scenario {
                settings,
                ..scenario
            };
            must_find(&scenario, |stores, _| stores, &["over the budget"]);
        }
    }
}
