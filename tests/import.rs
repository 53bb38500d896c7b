//! Readers of vector files: what is sound is read bit for bit, and what is not is an error that names the place.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod files;

use std::path::Path;

use aether::import::{Columns, Import, Matrix, Options, Truth};
use aether::{ErrorKind, Metric, PointId, Result};
use files::{Folder, npy, npy_bytes};
use serde_json::json;

fn points(path: &Path, options: &Options) -> Result<Vec<aether::Point>> {
    Import::open(path, options)?.collect()
}

/// The error of reading a whole file, as text.
fn refusal(path: &Path) -> String {
    let error = points(path, &Options::default()).expect_err("this file must be refused");
    assert!(
        matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Corrupt),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&path.display().to_string()),
        "the file is not named: {text}"
    );
    text
}

const ROWS: [[f32; 3]; 2] = [[1.0, -2.5, 3.0], [0.0, 0.5, 65504.0]];

fn flat() -> Vec<f32> {
    ROWS.concat()
}

#[test]
fn npy_of_every_number_type_and_version_is_read() {
    let folder = Folder::new();
    let f32s: Vec<u8> = flat().iter().flat_map(|x| x.to_le_bytes()).collect();
    let f16s: Vec<u8> = flat()
        .iter()
        .flat_map(|x| half::f16::from_f32(*x).to_le_bytes())
        .collect();
    for version in [1, 2, 3] {
        for (dtype, bytes) in [("<f4", &f32s), ("<f2", &f16s)] {
            let path = folder.write("a.npy", &npy_bytes(version, dtype, &[2, 3], bytes));
            assert_eq!(
                Matrix::read(&path, &Options::default()).unwrap(),
                Matrix::new(3, flat()).unwrap()
            );
        }
    }
    let path = folder.write("b.npy", &npy("|u1", &[2, 3], &[0, 1, 2, 3, 4, 255]));
    let read = points(&path, &Options::default()).unwrap();
    assert_eq!(read[1].vector, [3.0, 4.0, 255.0]);
    assert_eq!(read[1].id, PointId::Int(1));
}

#[test]
fn npy_inside_gzip_is_read_and_its_checksum_checked() {
    let folder = Folder::new();
    let sound = files::gzip(&npy("|u1", &[3, 2], &[1, 2, 3, 4, 5, 6]));
    let path = folder.write("a.npy.gz", &sound);
    assert_eq!(
        Matrix::read(&path, &Options::default()).unwrap().row(2),
        [5.0, 6.0]
    );
    let mut damaged = sound.clone();
    let at = damaged.len() - 6;
    damaged[at] ^= 1;
    refusal(&folder.write("crc.npy.gz", &damaged));
    refusal(&folder.write("cut.npy.gz", &sound[..sound.len() - 10]));
    let longer = files::gzip(&npy("|u1", &[2, 2], &[1, 2, 3, 4, 5]));
    assert!(refusal(&folder.write("long.npy.gz", &longer)).contains("bytes follow the 2 rows"));
}

#[test]
fn damaged_npy_is_refused_with_its_reason() {
    let folder = Folder::new();
    let data: Vec<u8> = flat().iter().flat_map(|x| x.to_le_bytes()).collect();
    let sound = npy("<f4", &[2, 3], &data);
    for (name, bytes, words) in [
        ("empty", vec![], "empty or was cut short"),
        ("text", b"hello, world".to_vec(), "\\x93NUMPY"),
        (
            "version",
            npy_bytes(9, "<f4", &[2, 3], &data),
            "version 1, 2 or 3, got 9",
        ),
        ("cut", sound[..sound.len() - 1].to_vec(), "cut short"),
        ("longer", [&sound[..], &[0]].concat(), "2 x 3 numbers"),
        (
            "huge",
            npy("<f4", &[u64::MAX, 3], &data),
            "more bytes than a file can have",
        ),
        (
            "header",
            npy_bytes(2, "<f4", &[2, 3], &data)[..20].to_vec(),
            "inside the .npy header",
        ),
        ("none", npy("<f4", &[0, 3], &[]), "at least one row"),
        (
            "dims",
            npy("|u1", &[1, 70_000], &vec![1; 70_000]),
            "1 to 65536 dimensions, got 70000",
        ),
        ("zero", npy("<f4", &[3, 0], &[]), "got 0"),
        (
            "ints",
            npy("<i8", &[1, 1], &[0; 8]),
            "expected vectors of f32, f16 or u8",
        ),
    ] {
        let text = refusal(&folder.write(&format!("{name}.npy"), &bytes));
        assert!(text.contains(words), "{name}: {text}");
    }
    let mut claims = npy_bytes(2, "<f4", &[2, 3], &data);
    claims[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(refusal(&folder.write("claims.npy", &claims)).contains("claims 4294967295 bytes"));
}

#[test]
fn every_single_flipped_byte_gives_rows_or_an_error_and_never_a_panic() {
    let folder = Folder::new();
    let data: Vec<u8> = flat().iter().flat_map(|x| x.to_le_bytes()).collect();
    let npy = npy("<f4", &[2, 3], &data);
    for (name, sound) in [
        ("a.npy", npy.clone()),
        ("a.npy.gz", files::gzip(&npy)),
        ("a.fvecs", files::vecs(&ROWS)),
        (
            "a.jsonl",
            b"{\"id\": 1, \"vector\": [1.5, 2], \"payload\": {\"a\": 1}}\n".to_vec(),
        ),
    ] {
        for at in 0..sound.len() {
            for mask in [1u8, 0x80, 0xff] {
                let mut bytes = sound.clone();
                bytes[at] ^= mask;
                let read = points(&folder.write(name, &bytes), &Options::default());
                if let Ok(read) = read {
                    assert!(
                        read.iter().all(|p| p.vector.iter().all(|x| x.is_finite())),
                        "{name} at {at}"
                    );
                }
            }
        }
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused_with_row_and_place() {
    let folder = Folder::new();
    let bad = [[1.0f32, 2.0, 3.0], [4.0, f32::NAN, 6.0]];
    let bytes: Vec<u8> = bad.concat().iter().flat_map(|x| x.to_le_bytes()).collect();
    let words = "row 1, vector[1]: expected a finite number, got NaN";
    assert!(refusal(&folder.write("a.npy", &npy("<f4", &[2, 3], &bytes))).contains(words));
    assert!(refusal(&folder.write("a.fvecs", &files::vecs(&bad))).contains(words));
    let line = refusal(&folder.write(
        "a.jsonl",
        b"{\"vector\": [1, 2]}\n\n{\"vector\": [1, 1e39]}\n",
    ));
    assert!(
        line.contains("line 3, vector[1]: expected a finite number, got inf"),
        "{line}"
    );
    let half = npy("<f2", &[1, 1], &half::f16::INFINITY.to_le_bytes());
    assert!(refusal(&folder.write("h.npy", &half)).contains("got inf"));
}

#[test]
fn fvecs_and_bvecs_are_read_and_their_lengths_compared() {
    let folder = Folder::new();
    let sound = files::vecs(&ROWS);
    let read = points(&folder.write("a.fvecs", &sound), &Options::default()).unwrap();
    assert_eq!((read.len(), &read[1].vector[..]), (2, &ROWS[1][..]));
    let bytes = [&2i32.to_le_bytes()[..], &[7, 255]].concat();
    let read = points(&folder.write("a.bvecs", &bytes), &Options::default()).unwrap();
    assert_eq!(read[0].vector, [7.0, 255.0]);
    let mut other = sound.clone();
    other[16] = 2;
    for (name, bytes, words) in [
        ("empty", vec![], "empty file"),
        (
            "cut",
            sound[..sound.len() - 1].to_vec(),
            "whole number of rows",
        ),
        ("tiny", vec![1, 2], "row's length"),
        (
            "negative",
            [&(-1i32).to_le_bytes()[..], &[0; 4]].concat(),
            "positive length, got -1",
        ),
        ("zero", vec![0; 4], "1 to 65536 dimensions, got 0"),
        (
            "other",
            other,
            "row 1: expected length 3 as in row 0, got 2",
        ),
    ] {
        let text = refusal(&folder.write(&format!("{name}.fvecs"), &bytes));
        assert!(text.contains(words), "{name}: {text}");
    }
}

#[test]
fn json_lines_are_read_with_ids_and_payloads() {
    let folder = Folder::new();
    let text = "{\"id\": 7, \"vector\": [1, 2]}\n\
                {\"id\": \"seven\", \"vector\": [0.1, -2e-3], \"payload\": {\"a\": [1]}}\n\
                {\"id\": \"67e55044-10b1-426f-9247-bb680e5fe0c8\", \"vector\": [1, 1]}\n\
                {\"vector\": [3, 4]}";
    let read = points(
        &folder.write("a.jsonl", text.as_bytes()),
        &Options::default(),
    )
    .unwrap();
    assert_eq!(read[0].id, PointId::Int(7));
    assert_eq!(
        (&read[1].id, &read[1].payload),
        (&PointId::from("seven"), &Some(json!({"a": [1]})))
    );
    assert_eq!(read[1].vector, [0.1, -2e-3]);
    assert!(matches!(read[2].id, PointId::Uuid(_)));
    assert_eq!(
        read[3].id,
        PointId::Int(3),
        "a line without an id is named by its row"
    );
}

#[test]
fn json_lines_that_are_wrong_name_their_line() {
    let folder = Folder::new();
    for (second, words) in [
        (
            "{\"vector\": [1, 2, 3]}",
            "line 2: expected 2 dimensions as in the first line, got 3",
        ),
        ("{\"vectr\": [1, 2]}", "line 2: expected {\"id\""),
        ("{\"vector\": [1, null]}", "line 2"),
        ("{\"vector\": [1, \"2\"]}", "line 2"),
        (
            "{\"id\": -1, \"vector\": [1, 2]}",
            "line 2: id: expected a non-negative integer",
        ),
        (
            "{\"id\": \"\", \"vector\": [1, 2]}",
            "line 2: id: expected an integer, a UUID or a text of 1 to 512",
        ),
        ("{\"id\": 1, \"vector\": [1, 2]", "line 2"),
        ("nonsense", "line 2"),
    ] {
        let text = format!("{{\"vector\": [1, 2]}}\n{second}\n");
        let message = refusal(&folder.write("a.jsonl", text.as_bytes()));
        assert!(message.contains(words), "{second}: {message}");
    }
    assert!(refusal(&folder.write("e.jsonl", b"\n  \n")).contains("empty file"));
    assert!(refusal(&folder.write("u.jsonl", b"\xff\xfe\n")).contains("line 1: not UTF-8"));
}

#[test]
fn side_files_give_ids_and_payloads_row_by_row() {
    let folder = Folder::new();
    let path = folder.write("a.npy", &npy("|u1", &[2, 1], &[1, 2]));
    let payloads = folder.write(
        "p.jsonl",
        b"{\"id\": 10, \"word\": \"ten\"}\n{\"word\": \"none\"}\n",
    );
    let ids = folder.write("ids.txt", b"x\n99\n");
    let options = Options {
        payloads: Some(payloads.clone()),
        ..Options::default()
    };
    let read = points(&path, &options).unwrap();
    assert_eq!(
        (&read[0].id, &read[0].payload),
        (&PointId::Int(10), &Some(json!({"word": "ten"})))
    );
    assert_eq!(read[1].id, PointId::Int(1));
    let options = Options {
        payloads: Some(payloads),
        ids: Some(ids),
        ..Options::default()
    };
    let read = points(&path, &options).unwrap();
    assert_eq!(
        (&read[0].id, &read[1].id),
        (&PointId::Int(10), &PointId::Int(99))
    );
    let options = Options {
        id_prefix: Some("set/".to_owned()),
        limit: Some(1),
        ..options
    };
    let read = points(&path, &options).unwrap();
    assert_eq!((read.len(), &read[0].id), (1, &PointId::from("set/10")));
    for (lines, words) in [
        (&b"{}\n"[..], "row 1, got the file's end"),
        (b"{}\n{}\n{}\n", "more payloads than the 2 rows"),
    ] {
        let payloads = Some(folder.write("q.jsonl", lines));
        let error = points(
            &path,
            &Options {
                payloads,
                ..Options::default()
            },
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("q.jsonl") && error.contains(words),
            "{error}"
        );
    }
}

#[test]
fn parquet_is_read_by_columns_of_any_name() {
    let folder = Folder::new();
    let table = files::Table::sample(700);
    let path = folder.path("a.parquet");
    for compressed in [false, true] {
        table.write(&path, ["id", "vector", "payload"], compressed);
        let read = points(&path, &Options::default()).unwrap();
        assert_eq!(read.len(), 700);
        for (i, point) in read.iter().enumerate() {
            assert_eq!(point.id, PointId::Int(i as u64 * 3));
            assert_eq!(point.vector, table.vectors[i]);
            let payload = (i % 5 != 0).then(|| json!({"n": i}));
            assert_eq!(point.payload, payload, "row {i}");
        }
    }
    table.write(&path, ["key", "embedding", "meta"], true);
    let error = points(&path, &Options::default()).unwrap_err().to_string();
    assert!(
        error.contains("expected a column \"vector\", got columns key, embedding, meta"),
        "{error}"
    );
    let columns = Columns {
        id: "key".to_owned(),
        vector: "embedding".to_owned(),
        ..Columns::default()
    };
    let read = points(
        &path,
        &Options {
            columns,
            limit: Some(2),
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!(
        (read[1].id.clone(), &read[1].payload),
        (PointId::Int(3), &None)
    );
    let columns = Columns {
        vector: "key".to_owned(),
        ..Columns::default()
    };
    let error = points(
        &path,
        &Options {
            columns,
            ..Options::default()
        },
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("expected a list of float"), "{error}");
}

#[test]
fn parquet_that_is_wrong_or_damaged_is_refused() {
    let folder = Folder::new();
    let path = folder.path("a.parquet");
    let mut table = files::Table::sample(4);
    table.vectors[2].pop();
    table.write(&path, ["id", "vector", "payload"], false);
    assert!(refusal(&path).contains("row 2: expected 3 dimensions as in the first row, got 2"));
    table.vectors[2].push(f32::NEG_INFINITY);
    table.write(&path, ["id", "vector", "payload"], false);
    assert!(refusal(&path).contains("row 2, vector[2]: expected a finite number"));
    refusal(&folder.write("empty.parquet", b""));
    files::Table::sample(0).write(&path, ["id", "vector", "payload"], false);
    assert!(refusal(&path).contains("at least one row"));
    files::Table::sample(4).write(&path, ["id", "vector", "payload"], true);
    let sound = std::fs::read(&path).unwrap();
    for cut in [1, 8, sound.len() / 2, sound.len() - 1] {
        refusal(&folder.write("cut.parquet", &sound[..cut]));
    }
    std::panic::set_hook(Box::new(|_| {}));
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x55;
        // Parquet has no checksum over pages by default, so a flipped number may be read; a panic or a wrong shape may not.
        if let Ok(read) = points(&folder.write("flip.parquet", &bytes), &Options::default()) {
            assert!(
                read.iter().all(|p| p.vector.iter().all(|x| x.is_finite())),
                "at {at}"
            );
        }
    }
    drop(std::panic::take_hook());
}

#[test]
fn truth_is_read_from_npy_and_ivecs() {
    let folder = Folder::new();
    let narrow: Vec<u8> = [5i32, 6, 7, 8]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    let wide: Vec<u8> = [5i64, 6, 7, 8]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    let ivecs: Vec<u8> = [2i32, 5, 6, 2, 7, 8]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    for (name, bytes) in [
        ("a.npy", npy("<i4", &[2, 2], &narrow)),
        ("b.npy", npy("<i8", &[2, 2], &wide)),
        ("c.ivecs", ivecs),
    ] {
        let truth = Truth::read(folder.write(name, &bytes)).unwrap();
        assert_eq!(
            (truth.len(), truth.k(), truth.of(1, 10)),
            (2, 2, &[7, 8][..]),
            "{name}"
        );
        assert_eq!(truth.recall(0, 2, &[6, 9]), 0.5);
    }
    for (name, bytes, words) in [
        (
            "neg.npy",
            npy("<i4", &[1, 1], &(-1i32).to_le_bytes()),
            "got -1",
        ),
        (
            "big.npy",
            npy("<i8", &[1, 1], &i64::MAX.to_le_bytes()),
            "below 2^32",
        ),
        (
            "f.npy",
            npy("<f4", &[1, 1], &[0; 4]),
            "expected row numbers",
        ),
        (
            "none.npy",
            npy("<i4", &[0, 1], &[]),
            "expected queries x neighbours",
        ),
        ("none.ivecs", vec![], "empty file"),
    ] {
        let error = Truth::read(folder.write(name, &bytes))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{name}: {error}");
    }
}

#[test]
fn truth_can_be_computed_and_agrees_with_a_plain_sort() {
    let mut state = 7u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let base = Matrix::new(8, (0..800).map(|_| random()).collect()).unwrap();
    let queries = Matrix::new(8, (0..40).map(|_| random()).collect()).unwrap();
    for metric in Metric::ALL {
        let truth = Truth::compute(&base, &queries, metric, 7);
        for q in 0..queries.rows() {
            let mut all: Vec<u32> = (0..100).collect();
            let d = |r: &u32| metric.distance(queries.row(q), base.row(*r as usize));
            all.sort_by(|a, b| d(a).total_cmp(&d(b)));
            assert_eq!(truth.of(q, 7), &all[..7], "{metric}");
        }
    }
}

#[test]
fn a_missing_file_or_an_unknown_ending_is_named() {
    let folder = Folder::new();
    assert!(refusal(&folder.path("missing.npy")).contains("cannot open"));
    assert!(refusal(&folder.write("a.csv", b"1,2")).contains("expected a name ending in .npy"));
}
