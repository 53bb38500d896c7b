use super::*;

fn request(time: u64, key: u64, size: u32) -> Request {
    Request {
        time,
        key,
        size,
        write: false,
        importance: None,
    }
}

fn all(trace: &Trace) -> (Vec<Step>, Vec<u64>) {
    let (mut steps, mut nexts) = (Vec::new(), Vec::new());
    trace
        .each_block(true, &mut |s, n| {
            steps.extend_from_slice(s);
            nexts.extend_from_slice(n);
            Ok(())
        })
        .unwrap();
    (steps, nexts)
}

#[test]
fn keys_are_numbered_by_first_use_and_next_uses_are_found() {
    let keys = [70, 50, 70, 60, 50, 50];
    let requests = keys
        .iter()
        .zip(1..)
        .map(|(k, t)| request(t, *k, 10 * t as u32));
    let trace = Trace::from_requests("t", requests).unwrap();
    let (steps, nexts) = all(&trace);
    let ids: Vec<u32> = steps.iter().map(|s| s.id).collect();
    assert_eq!(ids, [0, 1, 0, 2, 1, 1]);
    assert_eq!(nexts, [2, 4, NEVER, NEVER, 5, NEVER]);
    // The first size of a key holds.
    assert_eq!(trace.sizes(), [10, 20, 40]);
    assert_eq!((trace.keys(), trace.bytes()), (3, 70));
    assert_eq!(trace.requested_bytes(), 10 + 20 + 10 + 40 + 20 + 20);
}

#[test]
fn a_trace_on_disk_is_the_trace_in_ram() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("walk.csv");
    let mut text = String::from("time,key,importance\n");
    let mut rng = fastrand::Rng::with_seed(3);
    for t in 0..(BLOCK as u64 * 2 + 77) {
        text.push_str(&format!("{t},{},{}\n", rng.u64(..5000), rng.u8(..=10)));
    }
    std::fs::write(&path, text).unwrap();
    let read = |in_ram| {
        let options = TraceOptions {
            in_ram,
            ..TraceOptions::default()
        };
        Trace::read(&path, &options, &mut |_| ()).unwrap()
    };
    let (ram, disk, edge) = (read(u64::MAX), read(1000), read(BLOCK as u64 * 2 + 77));
    assert!(matches!(disk.steps, Store::Disk(_)) && matches!(edge.steps, Store::Ram(_)));
    assert_eq!(all(&ram), all(&disk));
    assert_eq!((ram.name(), ram.keys()), ("walk", disk.keys()));
}

#[test]
fn a_trace_of_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.csv");
    std::fs::write(&path, "time,key\n").unwrap();
    let error = Trace::read(&path, &TraceOptions::default(), &mut |_| ()).unwrap_err();
    assert!(
        error.to_string().contains("at least one request"),
        "{error}"
    );
    let limit = TraceOptions {
        limit: 0,
        ..TraceOptions::default()
    };
    std::fs::write(&path, "time,key\n1,1\n").unwrap();
    assert!(Trace::read(&path, &limit, &mut |_| ()).is_err());
    assert!(Trace::from_requests("t", [request(1, 1, 0)]).is_err());
    assert!(Trace::from_requests("t", [request(2, 1, 1), request(1, 1, 1)]).is_err());
}
