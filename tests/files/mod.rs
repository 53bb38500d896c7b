//! Writes the files that the readers are tried on.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// A folder that goes when it is dropped.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

pub(crate) fn npy(dtype: &str, shape: &[u64], data: &[u8]) -> Vec<u8> {
    npy_bytes(1, dtype, shape, data)
}

pub(crate) fn npy_bytes(version: u8, dtype: &str, shape: &[u64], data: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let mut out = [b"\x93NUMPY", &[version, 0][..]].concat();
    if version == 1 {
        out.extend_from_slice(&(header.len() as u16).to_le_bytes());
    } else {
        out.extend_from_slice(&(header.len() as u32).to_le_bytes());
    }
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(data);
    out
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn vecs<const N: usize>(rows: &[[f32; N]]) -> Vec<u8> {
    let mut out = Vec::new();
    for row in rows {
        out.extend_from_slice(&(N as i32).to_le_bytes());
        row.iter()
            .for_each(|x| out.extend_from_slice(&x.to_le_bytes()));
    }
    out
}

/// Rows of a Parquet file: ids 0, 3, 6, …; a payload for all but each fifth row.
pub(crate) struct Table {
    pub(crate) vectors: Vec<Vec<f32>>,
}

impl Table {
    pub(crate) fn sample(rows: usize) -> Self {
        Self {
            vectors: (0..rows).map(|i| vec![i as f32, 0.5, -1.0]).collect(),
        }
    }

    pub(crate) fn write(&self, path: &Path, names: [&str; 3], compressed: bool) {
        let [id, vector, payload] = names;
        let schema = format!(
            "message points {{ required int64 {id}; optional group {vector} (LIST) {{ repeated group list {{ optional float \
             element; }} }} optional binary {payload} (STRING); }}"
        );
        let schema = Arc::new(parse_message_type(&schema).unwrap());
        let compression = if compressed {
            Compression::SNAPPY
        } else {
            Compression::UNCOMPRESSED
        };
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .build();
        let file = std::fs::File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        let numbered: Vec<(usize, &Vec<f32>)> = self.vectors.iter().enumerate().collect();
        for group in numbered.chunks(300) {
            let mut out = writer.next_row_group().unwrap();
            let ids: Vec<i64> = group.iter().map(|(i, _)| *i as i64 * 3).collect();
            let mut column = out.next_column().unwrap().unwrap();
            column
                .typed::<Int64Type>()
                .write_batch(&ids, None, None)
                .unwrap();
            column.close().unwrap();
            let floats: Vec<f32> = group.iter().flat_map(|(_, v)| v.iter().copied()).collect();
            let rep: Vec<i16> = group
                .iter()
                .flat_map(|(_, v)| (0..v.len()).map(|i| i16::from(i > 0)))
                .collect();
            let mut column = out.next_column().unwrap().unwrap();
            column
                .typed::<FloatType>()
                .write_batch(&floats, Some(&vec![3; floats.len()]), Some(&rep))
                .unwrap();
            column.close().unwrap();
            let has = |i: usize| !i.is_multiple_of(5);
            let texts = group.iter().filter(|(i, _)| has(*i));
            let texts: Vec<ByteArray> = texts
                .map(|(i, _)| ByteArray::from(format!("{{\"n\": {i}}}").as_str()))
                .collect();
            let def: Vec<i16> = group.iter().map(|(i, _)| i16::from(has(*i))).collect();
            let mut column = out.next_column().unwrap().unwrap();
            column
                .typed::<ByteArrayType>()
                .write_batch(&texts, Some(&def), None)
                .unwrap();
            column.close().unwrap();
            out.close().unwrap();
        }
        writer.close().unwrap();
    }
}
