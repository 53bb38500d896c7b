//! Every barrier is needed: each kind of sync is left out in turn, and each file that gets its name when it is whole is written under the name
//! instead; then something is lost with some seed, or it is said why not.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use aether::BlobKey;
use aether::role::ColdStore;
use aether_testkit::env::every;
use aether_testkit::run::Run;
use aether_testkit::simfs::{Call, NameChange, Verdict, Waiting};
use aether_testkit::workload::every_kind;
use bytes::Bytes;
use fastrand::Rng;
use parking_lot::Mutex;

use crate::ground::{Ground, is_cold, meta_path};
use crate::power::{begin_cut, simulate};

/// A kind of barrier, by what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Site {
    /// The bytes of a segment, before it gets its name.
    SegmentBytes,
    /// The name of a segment.
    SegmentName,
    /// That a segment's name is gone, or that of what a cut put left.
    SegmentGone,
    /// The bytes of a segment that is put again.
    SegmentAgain,
    /// The name of the folder of segments.
    ColdFolder,
    /// The pages of a new metadata file, and its header, while it has its first name.
    MetaBeginning,
    /// The metadata file's own name.
    MetaName,
    /// The pages of a commit and the header that names them as the next state.
    CommitPages,
    /// The header that makes them the current state.
    CommitHeader,
    /// The header's mark that somebody writes, on opening.
    OpeningMark,
    /// The same taken away, on closing.
    ClosingMark,
    /// The length of the metadata file alone.
    MetaLength,
    /// A sync for which nothing waits.
    Nothing,
    /// That a segment gets its name when it is whole.
    SegmentWhole,
    /// The same of the metadata file.
    MetaWhole,
}

impl Site {
    /// What becomes of it where it is left out.
    fn without(self) -> Verdict {
        match self {
            Self::SegmentWhole | Self::MetaWhole => Verdict::InPlace,
            _ => Verdict::Lie,
        }
    }
}

/// redb's header: nine bytes of magic, then the byte with these bits.
const FLAGS: usize = 9;
const IN_USE: u8 = 2;

fn meta_site(waiting: &Waiting) -> Site {
    let (before, now) = (
        waiting.head.0[FLAGS] & IN_USE,
        waiting.head.1[FLAGS] & IN_USE,
    );
    match (waiting.sectors.iter().next_back(), waiting.length) {
        (None, false) => Site::Nothing,
        (None, true) => Site::MetaLength,
        (Some(0), _) if before < now => Site::OpeningMark,
        (Some(0), _) if before > now => Site::ClosingMark,
        (Some(0), _) => Site::CommitHeader,
        (Some(_), _) => Site::CommitPages,
    }
}

/// What kind of barrier a call is.
fn site(call: &Call) -> Option<Site> {
    use NameChange::{Link, MakeFolder, Remove, Rename};
    let found = match call {
        Call::SyncFile(path, waiting) if *path == meta_path() => meta_site(waiting),
        Call::SyncFile(path, _) if is_cold(path) => {
            let name = path.file_name().unwrap_or_default();
            if name.as_encoded_bytes().starts_with(b".") {
                Site::SegmentBytes
            } else {
                Site::SegmentAgain
            }
        }
        Call::SyncFile(..) => Site::MetaBeginning,
        Call::SyncFolder(path, names) if is_cold(path) => {
            if names.contains(&Link) {
                Site::SegmentName
            } else if names.contains(&Remove) {
                Site::SegmentGone
            } else {
                Site::Nothing
            }
        }
        Call::SyncFolder(_, names) => {
            if names.contains(&MakeFolder) {
                Site::ColdFolder
            } else if names.contains(&Rename) {
                Site::MetaName
            } else {
                Site::Nothing
            }
        }
        Call::Name(Link, _) => Site::SegmentWhole,
        Call::Name(Rename, _) => Site::MetaWhole,
        _ => return None,
    };
    Some(found)
}

type Met = Arc<Mutex<BTreeMap<Site, u64>>>;

/// A disk without the barriers of a kind, which counts those that it meets.
fn ground(seed: u64, lie: Option<Site>, met: &Met) -> Ground {
    let mut ground = Ground::new(seed);
    let met = met.clone();
    ground.script_for_ever(move |call, _| match site(call) {
        Some(found) => {
            *met.lock().entry(found).or_default() += 1;
            if lie == Some(found) {
                found.without()
            } else {
                Verdict::Pass
            }
        }
        None => Verdict::Pass,
    });
    ground
}

/// Changes of the workload, about; and of an opening.
const CHANGES: u64 = 2_000;
const OPENING: u64 = 60;

/// One scenario of a seed: a workload or a beginning that is cut. What is lost is in the error.
fn scenario(seed: u64, lie: Option<Site>, met: &Met) -> Result<(), String> {
    let work = || {
        simulate(async {
            let mut rng = Rng::with_seed(seed);
            if seed.is_multiple_of(3) {
                let n = rng.u64(1..OPENING);
                let ground = ground(seed, lie, met);
                begin_cut(ground, n, rng.bool(), rng.u64(..100)).await;
                return;
            }
            let mut run = Run::new(ground(seed, lie, met)).await;
            let at = format!("seed {seed}");
            for _ in 0..2 {
                run.world.cut_at(rng.u64(1..CHANGES / 2), rng.bool());
                run.work(&every_kind(), &at).await;
            }
            run.end(&at).await;
        });
    };
    caught(work)
}

/// The contract of the cold store alone: what was put is there, what was deleted is not, whatever was cut or killed since.
fn put_and_delete(seed: u64, lie: Option<Site>, met: &Met) -> Result<(), String> {
    let work = || simulate(async { put_and_delete_on(ground(seed, lie, met), seed).await });
    caught(work)
}

async fn put_and_delete_on(mut ground: Ground, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    // By blob: whether it is there, where that is known.
    let mut model: BTreeMap<u8, Option<bool>> = BTreeMap::new();
    for _ in 0..6 {
        let Ok(store) = ground.cold(&ground.fs, false) else {
            assert!(ground.fs.is_dead());
            ground.next_life(rng.bool());
            continue;
        };
        for (n, there) in &model {
            let size = store.size(&blob(*n)).await.unwrap();
            let data = store.read(&blob(*n), &[0..2_000]).await.unwrap();
            assert!(data.is_none_or(|d| d[0] == bytes(*n)));
            if let Some(there) = there {
                assert_eq!(size.is_some(), *there, "seed {seed}, blob {n}");
            }
        }
        ground.cut_at(rng.u64(1..40), rng.bool());
        for _ in 0..10 {
            let n = rng.u8(0..4);
            let put = rng.bool();
            let done = if put {
                store.put(&blob(n), bytes(n)).await
            } else {
                store.delete(&blob(n)).await
            };
            model.insert(n, done.is_ok().then_some(put));
            if ground.fs.is_dead() {
                break;
            }
            done.unwrap();
        }
        drop(store);
        ground.next_life(rng.u8(0..3) == 0);
    }
}

fn blob(n: u8) -> BlobKey {
    BlobKey::new(format!("segments/{n}")).unwrap()
}

fn bytes(n: u8) -> Bytes {
    Bytes::from(vec![n + 1; 2_000])
}

/// What a panic says.
pub(crate) fn caught(work: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()))
            .unwrap_or_default()
    })
}

/// Seeds that a lie gets to be found out in; one that is needless gets so many with `AETHER_EVERY=1`, else a few.
const SEEDS: u64 = 400;

/// Leaves each kind of barrier out in turn, and gives the first seed at which that is found out.
fn find_out(
    sites: impl IntoIterator<Item = Site>,
    scenario: fn(u64, Option<Site>, &Met) -> Result<(), String>,
    seeds: u64,
) -> BTreeMap<Site, u64> {
    let met = Met::default();
    let mut found = BTreeMap::new();
    for lie in sites {
        let red = (0..seeds).find_map(|seed| Some((seed, scenario(seed, Some(lie), &met).err()?)));
        let Some((seed, what)) = red else { continue };
        println!(
            "{lie:?}: found out with seed {seed}: {:.150}",
            what.replace('\n', " ")
        );
        let green = scenario(seed, None, &met);
        assert_eq!(green, Ok(()), "seed {seed} without the lie about {lie:?}");
        found.insert(lie, seed);
    }
    found
}

/// Those whose loss the engine makes good, and why.
const NEEDLESS: [(Site, &str); 7] = [
    (
        Site::SegmentWhole,
        "no manifest names a segment whose put did not end: opening removes it, half written or whole. The contract of the cold store needs \
         it, which the test below shows.",
    ),
    (
        Site::SegmentGone,
        "a segment or a leftover that comes back is named by no manifest: opening removes it. The contract of the cold store needs it, \
         which the test below shows.",
    ),
    (
        Site::SegmentAgain,
        "the engine puts no blob twice; and a blob has its name only once its bytes are synced.",
    ),
    (
        Site::OpeningMark,
        "nothing that redb writes before the first commit's sync takes the place of what is in use, and that sync writes the mark too.",
    ),
    (
        Site::ClosingMark,
        "a mark that stays makes the next opening look through the file, and no more.",
    ),
    (
        Site::MetaLength,
        "the pages that use the new length come with a sync of their own, which covers it.",
    ),
    (Site::Nothing, "there is nothing that it would keep."),
];

#[test]
fn each_sync_and_rename_of_metadata_and_segments_is_needed_or_said_not_to_be() {
    let met = Met::default();
    for seed in 0..12 {
        let green = scenario(seed, None, &met);
        assert_eq!(
            green,
            Ok(()),
            "seed {seed}, with every barrier in its place"
        );
    }
    let met: BTreeSet<Site> = met.lock().keys().copied().collect();
    let needless: BTreeSet<Site> = NEEDLESS.iter().map(|(site, _)| *site).collect();
    println!("met: {met:?}");
    let needed = met.difference(&needless).copied();
    let found = find_out(needed.clone(), scenario, SEEDS);
    let expected: BTreeSet<Site> = needed.collect();
    assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), expected);
    let wrongly = find_out(needless, scenario, if every() { SEEDS } else { 6 });
    assert!(wrongly.is_empty(), "needed after all: {wrongly:?}");
}

#[test]
fn each_sync_and_rename_of_the_file_store_is_needed_for_its_contract() {
    let met = Met::default();
    for seed in 0..200 {
        assert_eq!(put_and_delete(seed, None, &met), Ok(()), "seed {seed}");
    }
    let met: BTreeSet<Site> = met.lock().keys().copied().collect();
    let found = find_out(met.iter().copied(), put_and_delete, SEEDS);
    let mut needed = met;
    for needless in [Site::Nothing, Site::SegmentAgain] {
        assert!(needed.remove(&needless), "{needless:?} was not met");
    }
    assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), needed);
}
