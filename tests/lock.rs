//! One process a folder: a second is told who holds it, and gets it as soon as the holder is gone, however it went.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod process;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use aether::{Config, Error, Memory, Point, PointId, Result};

const NAME: &str = "a_second_process_is_told_who_holds_the_folder";

fn config_of(folder: &Path) -> Config {
    let text =
        format!("[memory]\npath = {folder:?}\ndim = 2\nmetric = \"l2\"\n[flux]\ntick = \"0s\"\n");
    Config::from_toml(&text).unwrap()
}

fn main() {
    if let Some((_, folder)) = process::role() {
        hold(&folder);
        return;
    }
    if process::wanted(NAME) {
        run();
        println!("{NAME}: ok");
    }
}

/// The child: opens the memory, says so, and holds it until its input ends or it is killed.
fn hold(folder: &Path) {
    let memory = aether::open_blocking(config_of(folder)).unwrap();
    memory.upsert(vec![Point::new(7, vec![1.0, 2.0])]).unwrap();
    println!("open");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    memory.close().unwrap();
}

fn run() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config_of(folder.path());
    let registry = Arc::new(aether::registry().unwrap());
    for killed in [true, false] {
        let mut child = process::spawn("holder", folder.path(), &[]);
        let mut said = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut said).unwrap();
        assert_eq!(said, "open\n");

        let opened: Result<Memory> = runtime.block_on(aether::open(config.clone()));
        refused(&opened.unwrap_err(), child.id(), folder.path());
        let checked = runtime.block_on(aether::check(&config, registry.clone()));
        refused(&checked.unwrap_err(), child.id(), folder.path());
        let snapshot = folder.path().join("no-snapshot");
        let restored =
            runtime.block_on(Memory::restore(&snapshot, config.clone(), registry.clone()));
        // There is no snapshot, which is found out before anything is locked.
        assert!(restored.unwrap_err().is_invalid_input());

        if killed {
            child.kill().unwrap();
        } else {
            drop(child.stdin.take());
        }
        assert_eq!(child.wait().unwrap().success(), !killed);
        // A holder that is gone holds nothing, although its number still stands in the file.
        let memory = aether::open_blocking(config.clone()).unwrap();
        let point = memory.get(&PointId::Int(7)).unwrap().unwrap();
        assert_eq!(point.vector.unwrap(), [1.0, 2.0]);
        // The folder is held against this very process, too.
        let again = aether::open_blocking(config.clone()).unwrap_err();
        refused(&again, std::process::id(), folder.path());
        memory.close().unwrap();
    }
}

fn refused(error: &Error, holder: u32, folder: &Path) {
    assert!(error.is_locked(), "{error}");
    let text = error.to_string();
    for part in [
        &format!("process {holder}:"),
        &folder.display().to_string(),
        "stop it",
        "memory.path",
    ] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}
