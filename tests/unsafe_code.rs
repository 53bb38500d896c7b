//! `unsafe` stands in the files named here and in no other, each with its reason; and every crate without one forbids it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files with `unsafe`, and why.
const ALLOWED: [(&str, &str); 21] = [
    (
        "backends/hot-hnsw/src/arena.rs",
        "rows that readers read while a writer adds others: raw memory in regions that never move",
    ),
    (
        "backends/hot-hnsw/src/centres.rs",
        "hands padded vectors to the SIMD distances",
    ),
    (
        "backends/hot-hnsw/src/codes.rs",
        "codes and labels in raw memory, which readers read while a writer adds others",
    ),
    (
        "backends/hot-hnsw/src/compact.rs",
        "moves rows of that memory while no reader is in it",
    ),
    (
        "backends/hot-hnsw/src/format.rs",
        "writes and reads that memory as a snapshot",
    ),
    (
        "backends/hot-hnsw/src/graph.rs",
        "walks rows whose epoch keeps them from being written over",
    ),
    (
        "backends/hot-hnsw/src/hot_index.rs",
        "copies a vector into and out of that memory",
    ),
    (
        "backends/hot-hnsw/src/kernel.rs",
        "SIMD distances on raw rows, and prefetching",
    ),
    (
        "backends/hot-hnsw/src/map.rs",
        "heads of chains in raw memory, behind a lock that all of the table takes",
    ),
    (
        "backends/hot-hnsw/src/pages.rs",
        "maps memory and files, and advises the system about them",
    ),
    (
        "backends/hot-hnsw/src/product.rs",
        "SIMD products of codes and queries",
    ),
    (
        "backends/hot-hnsw/src/search.rs",
        "looks at a padded query as a slice again",
    ),
    (
        "backends/hot-hnsw/src/scratch.rs",
        "marks of visited rows without bounds checks in the innermost loop",
    ),
    (
        "backends/hot-hnsw/src/slots.rs",
        "slots of a table that is read without a lock",
    ),
    ("codes/src/kernel/count.rs", "SIMD intrinsics"),
    (
        "codes/src/kernel/mod.rs",
        "calls the SIMD kernels once the processor's features are known",
    ),
    (
        "codes/src/kernel/tile.rs",
        "SIMD over several queries at once",
    ),
    ("codes/src/kernel/x86.rs", "SIMD intrinsics"),
    (
        "src/cli/allocator.rs",
        "tells the C library to keep little of what is freed",
    ),
    (
        "tests/counting/mod.rs",
        "an allocator that counts over all threads, for tests that stand alone in their programs",
    ),
    (
        "tests/testkit/src/alloc.rs",
        "an allocator that counts, for tests",
    ),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The code without comments and strings; characters of neither are kept, so that words stay words.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(raw) = raw_string(rest) {
            raw
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |at| at + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

/// Length of a raw string that begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let begun = rest.len() - body.len() + hashes + 1;
    Some(
        rest[begun..]
            .find(&end)
            .map_or(rest.len(), |at| begun + at + end.len()),
    )
}

fn has_unsafe(text: &str) -> bool {
    let code = code_of(text);
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == "unsafe")
}

#[test]
fn unsafe_stands_where_it_is_listed_and_nowhere_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(root, &mut found);
    assert!(found.len() > 250, "{} sources", found.len());
    let mut allowed: BTreeMap<&str, &str> = ALLOWED.into_iter().collect();
    assert!(allowed.values().all(|reason| reason.len() > 10));
    for path in found {
        let name = path.strip_prefix(root).unwrap().to_string_lossy();
        let listed = allowed.remove(&*name);
        let used = has_unsafe(&std::fs::read_to_string(&path).unwrap());
        match (used, listed) {
            (true, None) => panic!(
                "{name}: unsafe code in a file that is not listed in tests/unsafe_code.rs; if it has to be, say why there"
            ),
            (false, Some(_)) => panic!(
                "{name}: listed in tests/unsafe_code.rs, and without unsafe code: take it off the list"
            ),
            _ => {}
        }
    }
    assert!(allowed.is_empty(), "listed, and not there: {allowed:?}");
}

#[test]
fn the_word_is_found_in_code_only() {
    for (text, expected) in [
        ("fn f() { unsafe { g() } }", true),
        ("unsafe impl Send for T {}", true),
        ("// unsafe\nfn f() {}", false),
        ("/* unsafe */ fn f() {}", false),
        ("let s = \"unsafe \\\" unsafe\"; let t = 1;", false),
        ("let s = r#\"unsafe \" unsafe\"#;", false),
        ("let s = \"a\"; unsafe {}", true),
        ("let c = '\"'; unsafe {}", true),
        ("#![forbid(unsafe_code)]", false),
        ("let unsafely = 1;", false),
    ] {
        assert_eq!(has_unsafe(text), expected, "{text}");
    }
}

/// A crate without `unsafe` cannot get any by accident: its root or its manifest forbids it.
#[test]
fn crates_without_unsafe_forbid_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut crates: Vec<PathBuf> = ["core", "policies", "src"].map(|c| root.join(c)).to_vec();
    for folder in ["backends", "examples"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        let folders = entries.map(|e| e.unwrap().path());
        crates.extend(folders.filter(|p| p.join("Cargo.toml").exists()));
    }
    for folder in crates {
        let name = folder
            .strip_prefix(root)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        if ALLOWED
            .iter()
            .any(|(file, _)| *name != *"src" && file.starts_with(&*name))
        {
            continue;
        }
        let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap_or_default();
        let forbidden = read("Cargo.toml").contains("unsafe_code = \"forbid\"")
            || read("src/lib.rs").contains("#![forbid(unsafe_code)]")
            || read("lib.rs").contains("#![forbid(unsafe_code)]");
        assert!(
            forbidden,
            "{name}: expected #![forbid(unsafe_code)] in src/lib.rs"
        );
    }
}
