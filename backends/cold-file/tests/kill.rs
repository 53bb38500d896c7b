//! A process that is killed in mid-put leaves whole blobs only, and every one that it acknowledged.
//!
//! The test runs itself as the child, which tells before and after each put; the parent kills it at a put of its choice.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use aether_cold_file::{FileStore, FileStoreConfig};
use aether_core::BlobKey;
use aether_core::role::ColdStore;
use bytes::Bytes;

const FOLDER: &str = "AETHER_TEST_KILLED_FOLDER";
const ROUNDS: usize = 12;

/// The content of a blob, told by its number.
fn content(number: usize) -> Bytes {
    let len = 1_000_000 + number * 1000;
    (0..len).map(|i| (i * 31 + number) as u8).collect()
}

fn key(round: usize, number: usize) -> BlobKey {
    BlobKey::new(format!("seg/{round:02}-{number:03}")).expect("a valid key")
}

fn open(folder: &Path) -> FileStore {
    FileStore::open(folder, &FileStoreConfig::default(), false).expect("the store opens")
}

#[tokio::test]
async fn what_a_killed_process_acknowledged_is_there_and_the_rest_is_whole_or_absent() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut acknowledged: Vec<(usize, usize)> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(FOLDER, temp.path())
            .env("AETHER_TEST_KILLED_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut lines = lines.map(|line| line.expect("text"));
        let begun = format!("begin {}", round % 4);
        for line in lines.by_ref() {
            if let Some(number) = line.strip_prefix("done ") {
                acknowledged.push((round, number.parse().expect("a number")));
            }
            // The test runner may have begun the line.
            if line.ends_with(&begun) {
                // Each round a little further into the put.
                (0..round * 2000).for_each(|_| std::hint::spin_loop());
                child.kill().expect("the child runs");
                break;
            }
        }
        // What was acknowledged between the decision and the kill counts too.
        for line in lines {
            if let Some(number) = line.strip_prefix("done ") {
                acknowledged.push((round, number.parse().expect("a number")));
            }
        }
        child.wait().expect("the child ends");

        let store = open(temp.path());
        for blob in store.list("").await.expect("list") {
            let name = blob.key.as_str();
            let number = name.rsplit_once('-').expect("our key").1;
            let expected = content(number.parse().expect("a number"));
            assert_eq!(blob.bytes, expected.len() as u64, "{name}");
            let whole = 0..blob.bytes;
            let read = store.read(&blob.key, std::slice::from_ref(&whole)).await;
            let read = read.expect("read").expect("listed");
            assert!(read[0] == expected, "{name}: other bytes");
        }
        for (round, number) in &acknowledged {
            let size = store.size(&key(*round, *number)).await.expect("size");
            assert!(size.is_some(), "blob {number} of round {round} is lost");
        }
        drop(store);
        let leftovers = std::fs::read_dir(temp.path())
            .expect("a folder")
            .filter(|e| {
                let name = e.as_ref().expect("an entry").file_name();
                name.to_string_lossy().starts_with(".put-")
            });
        assert_eq!(leftovers.count(), 0);
    }
    assert!(acknowledged.len() >= ROUNDS, "the children did some work");
}

#[tokio::test]
#[ignore = "the child of the other test, which kills it"]
async fn child() {
    let folder = std::env::var_os(FOLDER).expect("run by the other test");
    let round = std::env::var("AETHER_TEST_KILLED_ROUND").expect("run by the other test");
    let round = round.parse().expect("a number");
    let store = open(Path::new(&folder));
    let say = |text: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")
            .and_then(|()| out.flush())
            .expect("the parent listens");
    };
    for number in 0..1000 {
        let bytes = content(number);
        say(format!("begin {number}"));
        store.put(&key(round, number), bytes).await.expect("put");
        say(format!("done {number}"));
    }
}
