use std::path::Path;

use super::*;

fn path(name: &str) -> PathBuf {
    Path::new("/d").join(name)
}

/// A file system with the folder `/d`, which is there for good.
fn fresh() -> SimFs {
    let fs = SimFs::new();
    fs.make_folder(Path::new("/d")).unwrap();
    fs.sync_folder(Path::new("/")).unwrap();
    fs
}

/// What a hundred power cuts leave of a file.
fn cuts(fs: &SimFs, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    let cut = |seed| fs.fork().crash(&mut Rng::with_seed(seed));
    (0..100).map(|s| cut(s).contents(&path(name))).collect()
}

#[test]
fn what_was_synced_survives_and_nothing_else_must() {
    let fs = fresh();
    let file = fs.create(&path("a")).unwrap();
    file.append(b"one").unwrap();
    file.sync().unwrap();
    let kept = [None, Some(b"one".to_vec())];
    assert_eq!(cuts(&fs, "a"), kept.into(), "its name is not synced");
    fs.sync_folder(Path::new("/d")).unwrap();
    assert_eq!(cuts(&fs, "a"), [Some(b"one".to_vec())].into());
    file.write_at(b"two", 0).unwrap();
    let kept = [Some(b"one".to_vec()), Some(b"two".to_vec())];
    assert_eq!(cuts(&fs, "a"), kept.into());
    let killed = fs.fork().kill();
    assert_eq!(killed.contents(&path("a")), Some(b"two".to_vec()));
    assert_eq!(cuts(&killed, "a").len(), 2, "what waited waits on");
}

#[test]
fn writes_are_torn_at_sectors_and_later_ones_may_survive_earlier_ones() {
    let fs = fresh();
    let file = fs.create(&path("a")).unwrap();
    file.append(&[0; 3 * SECTOR]).unwrap();
    file.sync().unwrap();
    fs.sync_folder(Path::new("/d")).unwrap();
    file.write_at(&[1; 2 * SECTOR], 0).unwrap();
    file.write_at(&[2; SECTOR], 2 * SECTOR as u64).unwrap();
    let seen: BTreeSet<[u8; 3]> = cuts(&fs, "a")
        .into_iter()
        .map(|bytes| {
            let bytes = bytes.unwrap();
            let sectors = bytes.chunks(SECTOR);
            assert!(sectors.clone().all(|s| s.iter().all(|b| *b == s[0])));
            let firsts: Vec<u8> = sectors.map(|s| s[0]).collect();
            firsts.try_into().unwrap()
        })
        .collect();
    for expected in [[0, 0, 0], [1, 1, 2], [1, 0, 0], [0, 0, 2], [1, 1, 0]] {
        assert!(seen.contains(&expected), "{expected:?} of {seen:?}");
    }
}

#[test]
fn a_rename_is_whole_or_not_at_all_and_waits_for_its_folder() {
    let fs = fresh();
    for (name, byte) in [("old", b"1"), ("new", b"2")] {
        let file = fs.create(&path(name)).unwrap();
        file.append(byte).unwrap();
        file.sync().unwrap();
    }
    fs.sync_folder(Path::new("/d")).unwrap();
    fs.rename(&path("new"), &path("old")).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let cut = fs.fork().crash(&mut Rng::with_seed(seed));
        seen.insert((cut.contents(&path("old")), cut.contents(&path("new"))));
    }
    let before = (Some(b"1".to_vec()), Some(b"2".to_vec()));
    let after = (Some(b"2".to_vec()), None);
    assert_eq!(seen, [before, after].into());
}

#[test]
fn what_is_written_in_place_may_be_found_half_written() {
    let fs = fresh();
    for (name, byte) in [("old", b"1"), ("new", b"2")] {
        let file = fs.create(&path(name)).unwrap();
        file.append(&byte.repeat(4)).unwrap();
        file.sync().unwrap();
    }
    fs.sync_folder(Path::new("/d")).unwrap();
    let mut seen = BTreeSet::new();
    for n in 1..10 {
        let fs = fs.fork();
        let at = fs.changes() + n;
        fs.script(move |call, i| match call {
            Call::Name(NameChange::Rename, _) => Verdict::InPlace,
            _ if call.changes() && i == at => Verdict::Die,
            _ => Verdict::Pass,
        });
        let renamed = fs.rename(&path("new"), &path("old"));
        assert_eq!(renamed.is_err(), fs.is_dead());
        let next = fs.kill();
        let old = next.contents(&path("old")).unwrap();
        seen.insert(String::from_utf8(old).unwrap());
        assert_eq!(next.contents(&path("new")).is_none(), renamed.is_ok());
    }
    let expected = ["1111", "", "22", "2222"].map(str::to_owned);
    assert_eq!(seen, expected.into());
    let link = |fs: &SimFs| fs.link(&path("new"), &path("old"));
    fs.script(|_, _| Verdict::InPlace);
    assert_eq!(link(&fs).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn what_is_in_a_folder_that_did_not_survive_is_gone() {
    let fs = fresh();
    fs.make_folder(&path("sub")).unwrap();
    let file = fs.create(&path("sub/a")).unwrap();
    file.append(b"x").unwrap();
    file.sync().unwrap();
    fs.sync_folder(&path("sub")).unwrap();
    assert_eq!(cuts(&fs, "sub/a").len(), 2);
    fs.sync_folder(Path::new("/d")).unwrap();
    assert_eq!(cuts(&fs, "sub/a"), [Some(b"x".to_vec())].into());
}

#[test]
fn after_a_sync_that_failed_no_later_one_helps() {
    let fs = fresh();
    let file = fs.create(&path("a")).unwrap();
    fs.sync_folder(Path::new("/d")).unwrap();
    file.append(b"x").unwrap();
    fs.script(|call, _| {
        if call.is_barrier() {
            Verdict::Fail(ErrorKind::Other)
        } else {
            Verdict::Pass
        }
    });
    file.sync().unwrap_err();
    fs.unscript();
    file.sync().unwrap();
    assert_eq!(fs.contents(&path("a")), Some(b"x".to_vec()));
    // The length came with the later sync, the byte did not.
    assert_eq!(cuts(&fs, "a"), [Some(vec![0])].into());
}

#[test]
fn a_dead_life_changes_nothing_any_more() {
    let fs = fresh();
    let file = fs.create(&path("a")).unwrap();
    fs.die_at(2, true);
    file.append(b"x").unwrap();
    file.append(b"y").unwrap_err();
    let next = fs.kill();
    file.append(b"z").unwrap_err();
    fs.create(&path("b")).unwrap_err();
    assert_eq!(next.contents(&path("a")), Some(b"xy".to_vec()));
    assert_eq!(next.names(Path::new("/d")).unwrap(), ["a"]);
}

#[test]
fn a_full_disk_takes_what_fits_and_no_more() {
    let fs = fresh();
    fs.limit(Some(10));
    let file = fs.create(&path("a")).unwrap();
    file.append(&[1; 10]).unwrap();
    let error = file.append(&[1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    file.write_at(&[2; 10], 0).unwrap();
    file.set_len(5).unwrap();
    file.append(&[3; 5]).unwrap();
    fs.remove(&path("a")).unwrap();
    fs.create(&path("b")).unwrap().append(&[1; 10]).unwrap();
}

#[test]
fn lies_of_the_disk_are_told_as_the_script_says() {
    let fs = fresh();
    let file = fs.create(&path("a")).unwrap();
    file.append(&[0; 4 * SECTOR]).unwrap();
    let mut out = [0; 8];
    fs.script(|call, _| match call {
        Call::Read { .. } => Verdict::Short(3),
        _ => Verdict::Lie,
    });
    assert_eq!(file.read_at(&mut out, 0).unwrap(), 3);
    file.write_at(&[7; 8], 0).unwrap();
    fs.unscript();
    file.read_at(&mut out, 0).unwrap();
    assert_eq!(out, [0; 8], "a write that never came");
    fs.script(|_, _| Verdict::Flip(9));
    file.read_at(&mut out, 0).unwrap();
    assert_eq!(out, [0, 2, 0, 0, 0, 0, 0, 0]);
    fs.script(|_, _| Verdict::Misdirect(2));
    file.write_at(&[9; 8], 0).unwrap();
    fs.unscript();
    file.read_at(&mut out, 2 * SECTOR as u64).unwrap();
    assert_eq!(out, [9; 8]);
    let across = 2 * SECTOR as u64 - 4;
    for (n, seen) in [(0, [0, 0, 0, 0, 9, 9, 9, 9]), (3, [0; 8])] {
        fs.script(move |_, _| Verdict::Stale(n));
        file.read_at(&mut out, across).unwrap();
        assert_eq!(out, seen, "sector {n} modulo two");
    }
    fs.unscript();
    file.read_at(&mut out, across).unwrap();
    assert_eq!(out, [0, 0, 0, 0, 9, 9, 9, 9]);
    assert_eq!(
        fs.lies(),
        2,
        "a turned bit, a stale sector with something in it"
    );
}

#[test]
fn the_trace_tells_calls_outcomes_and_bytes_apart() {
    let trace = |bytes: &[u8], full: bool| {
        let fs = fresh();
        fs.limit(full.then_some(0));
        let written = fs.create(&path("a")).unwrap().append(bytes);
        assert_eq!(written.is_err(), full);
        fs.trace()
    };
    assert_eq!(trace(b"x", false), trace(b"x", false));
    assert_ne!(trace(b"x", false), trace(b"y", false));
    assert_ne!(trace(b"x", false), trace(b"x", true));
}
