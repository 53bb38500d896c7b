use std::io::Write as _;

use super::*;

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn read(name: &str, bytes: &[u8]) -> Result<Vec<Request>> {
    let (_folder, path) = file(name, bytes);
    TraceReader::open(&path, None)?.collect()
}

fn message(name: &str, bytes: &[u8]) -> String {
    let error = read(name, bytes).unwrap_err();
    assert_eq!(error.kind(), aether_core::ErrorKind::InvalidInput);
    error.to_string()
}

fn record(time: u32, key: u64, size: u32) -> Vec<u8> {
    let mut bytes = time.to_le_bytes().to_vec();
    bytes.extend(key.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend((-1_i64).to_le_bytes());
    bytes
}

#[test]
fn columns_are_found_by_name_and_ends_of_lines_do_not_matter() {
    let all = read(
        "t.csv",
        b"key,time,op,size,importance\r\n7,1,1,30,10\r\n8,1,0,40,0\r\n\r\n",
    )
    .unwrap();
    let first = Request {
        time: 1,
        key: 7,
        size: 30,
        write: true,
        importance: Some(10),
    };
    let second = Request {
        key: 8,
        size: 40,
        write: false,
        importance: Some(0),
        ..first
    };
    assert_eq!(all, [first, second]);
    let short = read("t.csv", b"time,key\n0,18446744073709551615").unwrap();
    assert_eq!(short.len(), 1);
    assert_eq!(
        (short[0].key, short[0].size, short[0].importance),
        (u64::MAX, 1, None)
    );
}

#[test]
fn a_malformed_line_names_file_and_line_and_what_was_expected() {
    for (text, place, what) in [
        ("", ":1:", "empty file"),
        ("time,key,colour\n", ":1:", "\"colour\" is unknown"),
        ("time,key,key\n", ":1:", "\"key\" is twice"),
        ("time,size\n", ":1:", "no column \"key\""),
        ("time,key\n0,1\n1\n", ":3:", "expected 2 fields, got 1"),
        ("time,key\n0,1,2\n", ":2:", "expected 2 fields, got 3"),
        (
            "time,key\n0,x\n",
            ":2:",
            "column \"key\": expected an unsigned integer",
        ),
        ("time,key\n0,-1\n", ":2:", "got \"-1\""),
        ("time,key\n0,18446744073709551616\n", ":2:", "below 2^64"),
        (
            "time,key,size\n0,1,0\n",
            ":2:",
            "column \"size\": expected 1 to",
        ),
        ("time,key,size\n0,1,4294967296\n", ":2:", "got 4294967296"),
        (
            "time,key,op\n0,1,2\n",
            ":2:",
            "expected 0 (read) or 1 (write)",
        ),
        ("time,key,importance\n0,1,11\n", ":2:", "expected 0 to 10"),
        (
            "time,key\n5,1\n4,1\n",
            ":3:",
            "time runs backwards, 4 after 5",
        ),
    ] {
        let got = message("t.csv", text.as_bytes());
        assert!(
            got.contains(&format!("t.csv{place}")) && got.contains(what),
            "{text:?}: {got}"
        );
    }
    let long = format!("time,key\n0,{}\n", "1".repeat(5000));
    assert!(message("t.csv", long.as_bytes()).contains("at most 4096 bytes"));
}

#[test]
fn binary_records_are_read_whole_or_refused() {
    let mut bytes = record(5, 1 << 40, 100);
    bytes.extend(record(5, 2, 0));
    bytes.extend(record(6, 2, 7));
    let (_folder, path) = file("t.oracleGeneral", &bytes);
    let mut reader = TraceReader::open(&path, None).unwrap();
    let first = reader.read().unwrap().unwrap();
    assert_eq!((first.time, first.key, first.size), (5, 1 << 40, 100));
    assert_eq!(reader.read().unwrap().unwrap().size, 7);
    assert_eq!((reader.read().unwrap(), reader.skipped()), (None, 1));

    let got = message("t.bin", &bytes[..50]);
    assert!(got.contains("record 3: expected 24 bytes, got 2"), "{got}");
    let back = [record(5, 1, 1), record(4, 1, 1)].concat();
    let got = message("t.oracleGeneral.bin", &back);
    assert!(got.contains("record 2: time runs backwards"), "{got}");
}

#[test]
fn zstd_is_told_by_its_first_bytes_and_long_windows_are_read() {
    let mut text = String::from("time,key\n");
    (0..200_000).for_each(|i| text.push_str(&format!("{i},{}\n", i * 7919 % 65_537)));
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(24).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(text.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    assert_eq!(read("t.csv.zst", &packed).unwrap().len(), 200_000);
    // A name that does not say so makes no difference.
    assert_eq!(read("t.csv", &packed).unwrap().len(), 200_000);
    let (_folder, path) = file("t.csv.zst", &packed[..packed.len() / 2]);
    let mut reader = TraceReader::open(&path, None).unwrap();
    let end = loop {
        match reader.read() {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(
        end.unwrap_err().to_string().contains("t.csv.zst"),
        "a cut file is an error"
    );
}

#[test]
fn a_name_that_tells_no_format_wants_to_be_told() {
    let got = message("t.txt", b"time,key\n");
    assert!(got.contains("--format"), "{got}");
    let (_folder, path) = file("t.txt", b"time,key\n0,1\n");
    let mut reader = TraceReader::open(&path, Some(TraceFormat::Csv)).unwrap();
    assert_eq!(reader.read().unwrap().unwrap().key, 1);
    let missing = TraceReader::open(Path::new("no/such.csv"), None).unwrap_err();
    assert_eq!(missing.kind(), aether_core::ErrorKind::Unavailable);
}
