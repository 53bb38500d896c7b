use super::*;
use crate::config::ByteSize;

fn config(path: PathBuf, places: u64) -> RecordConfig {
    RecordConfig {
        path,
        max_bytes: ByteSize((HEADER as u64) + places * RECORD as u64),
        ..RecordConfig::default()
    }
}

fn all(config: &RecordConfig) -> Vec<Recorded> {
    let mut recording = Recording::open(&config.path).unwrap();
    std::iter::from_fn(|| recording.read().unwrap()).collect()
}

fn note(recorder: &Recorder, id: u64, now: u64) {
    recorder.access([&PointId::Int(id)], 100, false, Time(now));
}

#[test]
fn a_ring_holds_the_newest_accesses_in_order_and_goes_on_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path().join("ring.aetrec"), 10);
    let recorder = Recorder::open(&config).unwrap().unwrap();
    (1..=4).for_each(|i| note(&recorder, i, i * 10));
    recorder.write().unwrap();
    assert_eq!(
        all(&config).iter().map(|r| r.key).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    drop(recorder);
    let recorder = Recorder::open(&config).unwrap().unwrap();
    (5..=23).for_each(|i| note(&recorder, i, i * 10));
    recorder.write().unwrap();
    let keys: Vec<u64> = all(&config).iter().map(|r| r.key).collect();
    assert_eq!(keys, (14..=23).collect::<Vec<_>>());
    assert!(all(&config).windows(2).all(|w| w[0].time < w[1].time));
    let bytes = std::fs::metadata(&config.path).unwrap().len();
    assert_eq!(bytes, config.max_bytes.0);
}

#[test]
fn a_ring_of_the_first_layout_is_read_and_goes_on_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path().join("ring"), 10);
    let header = Header {
        layout: Layout::First,
        places: 10,
        sample: config.sample,
        hashed: false,
    };
    let mut bytes = header.encode();
    assert_eq!(&bytes[..8], b"AETHREC1");
    let old = |n| Recorded {
        time: n,
        key: n,
        size: 100,
        write: false,
        importance: None,
    };
    (1..=12).for_each(|n| Layout::First.encode(n, &old(n), &mut bytes));
    // Numbers 11 and 12 stand where 1 and 2 stood.
    let newest = bytes.split_off(HEADER + 10 * RECORD);
    bytes[HEADER..HEADER + newest.len()].copy_from_slice(&newest);
    // Number 5's first bytes, as the first version of the format wrote them.
    let place = &bytes[HEADER + 4 * RECORD..][..RECORD];
    assert_eq!(
        place[..17],
        [5, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5]
    );
    std::fs::write(&config.path, &bytes).unwrap();
    let keys = |config| all(config).iter().map(|r| r.key).collect::<Vec<_>>();
    assert_eq!(keys(&config), (3..=12).collect::<Vec<_>>());
    let recorder = Recorder::open(&config).unwrap().unwrap();
    note(&recorder, 13, 13);
    recorder.write().unwrap();
    assert_eq!(keys(&config), (4..=13).collect::<Vec<_>>());
    assert_eq!(&std::fs::read(&config.path).unwrap()[..8], b"AETHREC1");
}

#[test]
fn accesses_of_one_call_share_a_time_and_feedback_finds_its_access() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path().join("ring"), 100);
    let recorder = Recorder::open(&config).unwrap().unwrap();
    let ids = [1, 2, 3].map(PointId::Int);
    recorder.access(&ids, 100, false, Time(7));
    recorder.access(&ids[..1], 100, true, Time(7));
    recorder.judge(&ids[1], 0.84);
    recorder.judge(&PointId::Int(9), 1.0);
    recorder.write().unwrap();
    let found = all(&config);
    let told: Vec<_> = found
        .iter()
        .map(|r| (r.key, r.time, r.write, r.importance))
        .collect();
    let expected = [
        (1, 7, false, None),
        (2, 7, false, Some(8)),
        (3, 7, false, None),
        (1, 8, true, None),
    ];
    assert_eq!(told, expected);
}

#[test]
fn ids_are_hashed_on_request_and_sampled_whole() {
    let folder = tempfile::tempdir().unwrap();
    let plain = config(folder.path().join("plain"), 1000);
    let hashed = RecordConfig {
        path: folder.path().join("hashed"),
        hash_key: "a secret".to_owned(),
        sample: 0.25,
        ..plain.clone()
    };
    for config in [&plain, &hashed] {
        let recorder = Recorder::open(config).unwrap().unwrap();
        for round in 0..2 {
            (0..400).for_each(|id| note(&recorder, id, round * 400 + id));
        }
        recorder.write().unwrap();
    }
    assert!(all(&plain).iter().take(400).map(|r| r.key).eq(0..400));
    let found = all(&hashed);
    // 100 of 400 ids expected; five standard deviations are 43.
    assert!((57..=143).contains(&(found.len() / 2)), "{}", found.len());
    assert!(
        found.iter().all(|r| r.key >= 400),
        "no id stands there as it is"
    );
    let (first, second) = found.split_at(found.len() / 2);
    assert!(first.iter().map(|r| r.key).eq(second.iter().map(|r| r.key)));
}

#[test]
fn a_torn_record_is_skipped_and_another_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path().join("ring"), 10);
    let recorder = Recorder::open(&config).unwrap().unwrap();
    (1..=5).for_each(|i| note(&recorder, i, i));
    recorder.write().unwrap();
    let mut bytes = std::fs::read(&config.path).unwrap();
    bytes[HEADER + 2 * RECORD + 20] ^= 1;
    std::fs::write(&config.path, &bytes[..bytes.len() - 5]).unwrap();
    assert_eq!(
        all(&config).iter().map(|r| r.key).collect::<Vec<_>>(),
        [1, 2, 4]
    );
    let other = RecordConfig {
        sample: 0.5,
        ..config.clone()
    };
    let error = Recorder::open(&other).unwrap_err();
    assert!(error.to_string().contains("name another file"), "{error}");
    std::fs::write(&config.path, "time,key\n").unwrap();
    assert!(Recorder::open(&config).is_err());
    assert!(Recorder::open(&RecordConfig::default()).unwrap().is_none());
}

/// A file that is cut within its header is refused, and with it the memory. So a ring gets its name when its header is whole: whatever a process
/// that ended meanwhile left aside is written over.
#[test]
fn a_ring_whose_beginning_was_cut_does_not_keep_the_memory_from_opening() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path().join("ring"), 10);
    drop(Recorder::open(&config).unwrap());
    let whole = std::fs::read(&config.path).unwrap();
    assert_eq!(whole.len(), HEADER);
    for length in 0..HEADER {
        std::fs::write(&config.path, &whole[..length]).unwrap();
        assert!(
            Recorder::open(&config).unwrap_err().is_corrupt(),
            "{length}"
        );
        std::fs::remove_file(&config.path).unwrap();
        std::fs::write(folder.path().join("ring.new"), &whole[..length]).unwrap();
        let recorder = Recorder::open(&config).unwrap().unwrap();
        note(&recorder, 1, 10);
        recorder.write().unwrap();
        assert_eq!(all(&config).len(), 1);
        let names = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 1, "something is left aside");
        std::fs::remove_file(&config.path).unwrap();
    }
}
