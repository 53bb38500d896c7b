//! The suite itself: it passes the strict fake and fails every fake that is wrong on purpose.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use aether_core::role::{Batch, Epoch, KeyRange, MetaStore, Table};
use aether_core::{Factory, OptionSpec, Plugin, Result};

use super::harness::{all, b, claim, one, put, run};
use super::{CHECKS, Harness};
use crate::fake::meta::{Break, BrokenMeta, Fault, FaultyMeta, StrictMeta};

fn harness(fault: Break) -> Harness {
    let family = BrokenMeta::new(fault);
    Harness::factory(true, move |raw, context| {
        raw.parse::<NoKeys>()?;
        if context.read_only && fault != Break::ReadOnlyWrites {
            return Err(aether_core::Error::unsupported("opens for writing only"));
        }
        let dir = context
            .data_dir
            .as_deref()
            .expect("the suite gives a folder");
        family.open(dir)
    })
    .elsewhere()
    .with_cases(8)
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

crate::meta_conformance!(strict, harness(Break::Nothing));

fn caught_by(fault: Break) -> &'static str {
    match fault {
        Break::Nothing => unreachable!("nothing is wrong with it"),
        Break::CommitsInTwoHalves => "readers_see_whole_batches",
        Break::AppliesBeforePreconditions
        | Break::IgnoresPreconditions
        | Break::LooksAtValuesOnly
        | Break::ConflictWithoutKey => "a_failed_precondition_changes_nothing",
        Break::FirstOperationWins => "later_operations_win",
        Break::EpochNeverGrows | Break::DoesNotFence => "epochs_grow_and_fence",
        Break::EpochRestarts => "epochs_grow_across_reopening",
        Break::GetSorts | Break::GetDropsDuplicates => "gets_keep_order_and_duplicates",
        Break::ScanIgnoresLimit
        | Break::ScanIgnoresEnd
        | Break::ScanStartsInclusive
        | Break::ScanBackwards => "scans_keep_range_order_and_limit",
        Break::MixesTables => "tables_are_apart",
        Break::AcceptsEmptyKeys
        | Break::AcceptsOversize
        | Break::RefusesLargeValues
        | Break::RefusedBatchLeavesOps => "limits_are_kept",
        Break::TreatsEmptyAsAbsent => "empty_values_are_values",
        Break::ForgetsOnReopen | Break::DurableDoesNothing => "durable_survives_a_kill",
        Break::CloseLosesWrites => "close_makes_everything_durable",
        Break::AnswersAfterClose => "close_ends_every_call",
        Break::SeqStandsStill | Break::VisibleLater => "commits_are_visible_and_numbered",
        Break::PreconditionsSeeOwnOperations => "preconditions_look_at_the_state_before",
        Break::TwoHolders => "one_process_at_a_time",
        Break::LimitsTooSmall => "limits_are_honest",
        Break::KillLeavesHalfABatch => "a_kill_leaves_whole_batches",
        Break::LosesRaces => "commits_queue",
        Break::ReadOnlyWrites => "reading_only_changes_nothing",
    }
}

#[test]
fn every_broken_store_is_caught_by_the_check_of_its_fault() {
    for fault in Break::ALL {
        let name = caught_by(fault);
        let (_, check) = CHECKS
            .iter()
            .find(|(n, _)| *n == name)
            .expect("a check of that name");
        let passed = catch_unwind(AssertUnwindSafe(|| check(&harness(fault)))).is_ok();
        assert!(!passed, "{fault:?} passed {name}");
    }
}

/// The comparison with a map finds, by itself, whatever a history can show.
#[test]
fn the_map_finds_faults_of_every_kind() {
    for fault in [
        Break::FirstOperationWins,
        Break::IgnoresPreconditions,
        Break::ScanIgnoresEnd,
        Break::ScanStartsInclusive,
        Break::GetSorts,
        Break::TreatsEmptyAsAbsent,
        Break::EpochNeverGrows,
        Break::ForgetsOnReopen,
        Break::CloseLosesWrites,
    ] {
        let harness = harness(fault).with_cases(200);
        let passed = catch_unwind(AssertUnwindSafe(|| super::answers_like_a_map(&harness))).is_ok();
        assert!(!passed, "{fault:?} passed");
    }
}

const fn option(name: &'static str, default: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        default,
        unit: "",
        help: "",
    }
}

const fn plugin(options: &'static [OptionSpec], strict: bool) -> Plugin {
    Plugin {
        name: "sloppy",
        crate_name: "",
        summary: "",
        options,
        persistent: false,
        factory: Factory::Meta(if strict {
            |raw, _| {
                raw.parse::<OneKey>()?;
                Ok(Arc::new(StrictMeta::new()))
            }
        } else {
            |_, _| Ok(Arc::new(StrictMeta::new()))
        }),
    }
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OneKey {
    #[allow(dead_code, reason = "only its type is of interest")]
    limit: u32,
}

/// Options that the plug-in does not read, defaults that it refuses and keys that nobody declared are found.
#[test]
fn sloppy_options_are_caught() {
    static RIGHT: Plugin = plugin(&[option("limit", "3")], true);
    static UNREAD: Plugin = plugin(&[option("limits", "3")], true);
    static REFUSED: Plugin = plugin(&[option("limit", "\"3\"")], true);
    static LAX: Plugin = plugin(&[], false);
    super::options_are_as_declared(&Harness::plugin(&RIGHT));
    for sloppy in [&UNREAD, &REFUSED, &LAX] {
        let harness = Harness::plugin(sloppy);
        let check = || super::options_are_as_declared(&harness);
        assert!(catch_unwind(AssertUnwindSafe(check)).is_err(), "{sloppy:?}");
    }
}

/// A store whose file holds values without any checksum must fail the damage check.
#[test]
fn a_store_without_checksums_is_caught() {
    let naked = Harness::factory(true, |_, context| {
        let dir = context.data_dir.clone().expect("the suite gives a folder");
        Ok(Arc::new(Naked::open(dir.join("naked"))?))
    });
    let result = catch_unwind(AssertUnwindSafe(|| {
        super::damage_is_found_or_harmless(&naked)
    }));
    assert!(result.is_err(), "values without checksums passed");
}

#[test]
fn a_crash_keeps_what_was_durable_and_any_prefix_of_the_rest() {
    run(async {
        let store = StrictMeta::new();
        let epoch = claim(&store).await;
        let mut seqs = Vec::new();
        for n in 0..4u8 {
            let mut batch = Batch::new(epoch);
            batch.put(Table::State, vec![n], vec![n]);
            seqs.push(store.commit(batch).await.unwrap());
        }
        store.durable(seqs[1]).await.unwrap();
        assert_eq!(store.pending(), 2);
        for keep in 0..4 {
            let after = store.crash_keeping(keep);
            assert_eq!(all(&after, Table::State).await.len(), 2 + keep.min(2));
            assert!(claim(&after).await > epoch);
        }
        assert_eq!(store.count("commit"), 4);
        assert_eq!(store.total(), 6);
    });
}

#[test]
fn a_second_handle_fences_the_first() {
    run(async {
        let first = StrictMeta::new();
        let second = first.handle();
        let old = claim(&first).await;
        put(&first, old, Table::State, &[("k", "1")]).await;
        let new = claim(&second).await;
        assert!(first.commit(Batch::new(old)).await.unwrap_err().is_fenced());
        put(&second, new, Table::State, &[("k", "2")]).await;
        assert_eq!(one(&first, Table::State, &b("k")).await, Some(b("2")));
        second.close().await.unwrap();
        assert!(first.scan(Table::State, KeyRange::all(), 1).await.is_ok());
    });
}

#[test]
fn faults_fall_where_they_are_told_to() {
    use aether_core::Retry;
    run(async {
        for (fault, retry, happened) in [
            (Fault::Before, Retry::Later, false),
            (Fault::Lost, Retry::Unknown, false),
            (Fault::After, Retry::Unknown, true),
            (Fault::Poison, Retry::Never, false),
            (Fault::Die, Retry::Unknown, false),
            (Fault::DieAfter, Retry::Unknown, true),
        ] {
            let inner = StrictMeta::new();
            let epoch = claim(&inner).await;
            let faulty = FaultyMeta::failing_at(Arc::new(inner.clone()), "commit", 2, fault);
            put(&faulty, epoch, Table::State, &[("first", "v")]).await;
            let mut batch = Batch::new(epoch);
            batch.put(Table::State, b("second"), b("v"));
            let error = faulty.commit(batch).await.unwrap_err();
            assert_eq!(error.retry(), retry, "{fault:?}");
            assert_eq!(
                one(&inner, Table::State, &b("second")).await.is_some(),
                happened,
                "{fault:?}"
            );
            let dead = matches!(fault, Fault::Die | Fault::DieAfter);
            assert_eq!(faulty.get(Table::State, &[b("first")]).await.is_err(), dead);
            let writes = faulty.commit(Batch::new(epoch)).await;
            assert_eq!(writes.is_err(), dead || fault == Fault::Poison, "{fault:?}");
            assert_eq!(faulty.count("commit"), 3);
        }
    });
}

/// A store that rewrites one file without checksums: `len key len value` for each pair.
#[derive(Debug)]
struct Naked {
    path: std::path::PathBuf,
    inner: StrictMeta,
}

impl Naked {
    fn open(path: std::path::PathBuf) -> Result<Self> {
        let inner = StrictMeta::new();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let mut rest = &bytes[..];
        let corrupt = || aether_core::Error::corrupt("naked file");
        while let Some((&table, tail)) = rest.split_first() {
            rest = tail;
            let mut part = || {
                let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(corrupt)?;
                let (part, tail) = tail
                    .split_at_checked(u32::from_le_bytes(*len) as usize)
                    .ok_or_else(corrupt)?;
                rest = tail;
                Ok::<_, aether_core::Error>(part.to_vec())
            };
            let (key, value) = (part()?, part()?);
            let table = Table::ALL.get(usize::from(table)).ok_or_else(corrupt)?;
            inner.tamper(*table, &key, value);
        }
        Ok(Self { path, inner })
    }
}

#[async_trait::async_trait]
impl MetaStore for Naked {
    async fn claim(&self) -> Result<Epoch> {
        self.inner.claim().await
    }

    async fn get(&self, table: Table, keys: &[bytes::Bytes]) -> Result<Vec<Option<bytes::Bytes>>> {
        self.inner.get(table, keys).await
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>> {
        self.inner.scan(table, range, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<aether_core::role::Seq> {
        self.inner.commit(batch).await
    }

    async fn durable(&self, seq: aether_core::role::Seq) -> Result<()> {
        self.inner.durable(seq).await
    }

    fn capability(&self) -> aether_core::role::MetaCapability {
        self.inner.capability()
    }

    async fn close(&self) -> Result<()> {
        let mut bytes = Vec::new();
        for (table, key, value) in self.inner.dump() {
            bytes.push(table as u8);
            for part in [key, value] {
                bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
                bytes.extend_from_slice(&part);
            }
        }
        std::fs::write(&self.path, bytes).expect("the file is written");
        self.inner.close().await
    }
}
