//! Parquet: columns of ids, vectors and payloads, read a few hundred rows at a time.
//!
//! Columns are read by their definition and repetition levels (see "Nested Encoding" in the Parquet format's documentation),
//! so that neither arrow nor a row object for each number is needed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ::parquet::basic::Type as Physical;
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use aether_core::{Error, PointId, Result};
use bytes::Bytes;

use super::{
    Columns, Entry, Rows, check_dim, check_finite, damaged, id_from_json, io_error, refused,
};

/// Rows decoded at once.
const BATCH_ROWS: usize = 256;

/// A file that refuses to be read beyond its end before anything is allocated for it.
struct Checked {
    file: File,
    length: u64,
}

impl Length for Checked {
    fn len(&self) -> u64 {
        self.length
    }
}

impl Checked {
    fn at(&self, start: u64, length: u64) -> std::result::Result<File, ParquetError> {
        if start
            .checked_add(length)
            .is_none_or(|end| end > self.length)
        {
            let message = format!(
                "expected {length} bytes at {start}, but the file has {}",
                self.length
            );
            return Err(ParquetError::EOF(message));
        }
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok(file)
    }
}

impl ChunkReader for Checked {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> std::result::Result<Self::T, ParquetError> {
        self.at(start, 0).map(BufReader::new)
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        let mut buffer = Vec::with_capacity(length);
        self.at(start, length as u64)?
            .take(length as u64)
            .read_to_end(&mut buffer)?;
        if buffer.len() != length {
            return Err(ParquetError::EOF(format!(
                "expected {length} bytes at {start}, got {}",
                buffer.len()
            )));
        }
        Ok(buffer.into())
    }
}

/// Where a column stands in the file, and how deep its values are.
#[derive(Clone, Copy, Debug)]
struct Column {
    leaf: usize,
    physical: Physical,
    def_max: i16,
    list: bool,
}

/// Points of a Parquet file.
pub(super) struct ParquetRows {
    path: PathBuf,
    reader: SerializedFileReader<Checked>,
    id: Option<Column>,
    vector: Column,
    payload: Option<Column>,
    columns: Columns,
    dim: usize,
    rows: u64,
    group: usize,
    open: Option<Group>,
    ready: VecDeque<Entry>,
    row: u64,
}

/// The open columns of one row group.
struct Group {
    left: usize,
    id: Option<ColumnReader>,
    vector: ColumnReader,
    payload: Option<ColumnReader>,
}

/// The library answers damage with errors, but not everywhere: what panics in it is damage as well.
fn guarded<T>(
    path: &Path,
    what: &str,
    work: impl FnOnce() -> std::result::Result<T, ParquetError>,
) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(damaged(path, format!("cannot read {what} as Parquet")).with_source(e)),
        Err(_) => Err(damaged(
            path,
            format!("cannot read {what} as Parquet: its bytes contradict themselves"),
        )),
    }
}

impl ParquetRows {
    pub(super) fn open(path: &Path, columns: &Columns) -> Result<Self> {
        let file = File::open(path).map_err(|e| io_error(path, "open the file", e))?;
        let length = file
            .metadata()
            .map_err(|e| io_error(path, "read the file's size", e))?
            .len();
        let reader = guarded(path, "the footer", || {
            SerializedFileReader::new(Checked { file, length })
        })?;
        let default = Columns::default();
        let id = find(path, &reader, &columns.id, false, columns.id != default.id)?;
        let payload = find(
            path,
            &reader,
            &columns.payload,
            false,
            columns.payload != default.payload,
        )?;
        let Some(vector) = find(path, &reader, &columns.vector, true, true)? else {
            return Err(Error::internal("a column that must be there is not"));
        };
        let rows = u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
        let mut this = Self {
            path: path.to_owned(),
            reader,
            id,
            vector,
            payload,
            columns: columns.clone(),
            dim: 0,
            rows,
            group: 0,
            open: None,
            ready: VecDeque::new(),
            row: 0,
        };
        this.fill()?;
        let first = this.ready.front().map(|e| e.vector.len() as u64);
        let first = first.ok_or_else(|| refused(path, "expected at least one row, got none"))?;
        this.dim = check_dim(path, first)?;
        Ok(this)
    }

    /// Opens the next row group that has rows; `false` at the end.
    fn open_group(&mut self) -> Result<bool> {
        while self.open.as_ref().is_none_or(|g| g.left == 0) {
            self.open = None;
            if self.group == self.reader.num_row_groups() {
                return Ok(false);
            }
            let what = format!("row group {}", self.group);
            let (id, vector, payload) = (self.id, self.vector, self.payload);
            let (reader, number) = (&self.reader, self.group);
            let group = guarded(&self.path, &what, || {
                let group = reader.get_row_group(number)?;
                let open = |c: Column| group.get_column_reader(c.leaf);
                Ok(Group {
                    left: usize::try_from(group.metadata().num_rows()).unwrap_or(0),
                    id: id.map(open).transpose()?,
                    vector: open(vector)?,
                    payload: payload.map(open).transpose()?,
                })
            })?;
            self.open = Some(group);
            self.group += 1;
        }
        Ok(true)
    }

    /// Decodes the next rows, if there are any.
    fn fill(&mut self) -> Result<()> {
        if !self.open_group()? {
            return Ok(());
        }
        let Some(group) = &mut self.open else {
            return Ok(());
        };
        let (path, first, rows) = (&self.path, self.row, group.left.min(BATCH_ROWS));
        let vectors = guarded(path, "vectors", || {
            read_vectors(&mut group.vector, self.vector, rows)
        })?;
        let ids = match (&mut group.id, self.id) {
            (Some(reader), Some(column)) => {
                guarded(path, "ids", || read_scalars(reader, column, rows))?
            }
            _ => vec![None; rows],
        };
        let payloads = match (&mut group.payload, self.payload) {
            (Some(reader), Some(column)) => {
                guarded(path, "payloads", || read_scalars(reader, column, rows))?
            }
            _ => vec![None; rows],
        };
        if vectors.len() != rows || ids.len() != rows || payloads.len() != rows {
            let got = format!(
                "{} vectors, {} ids, {} payloads",
                vectors.len(),
                ids.len(),
                payloads.len()
            );
            return Err(damaged(
                path,
                format!("row {first}: expected {rows} rows in each column, got {got}"),
            ));
        }
        group.left -= rows;
        self.row += rows as u64;
        for (i, ((vector, id), payload)) in vectors.into_iter().zip(ids).zip(payloads).enumerate() {
            let row = first + i as u64;
            let vector = vector.ok_or_else(|| {
                refused(
                    path,
                    format!(
                        "row {row}: expected a list of numbers in {:?}, got null",
                        self.columns.vector
                    ),
                )
            })?;
            let id = id.map(|s| s.into_id(path, row)).transpose()?;
            let payload = payload.map(|s| s.into_payload(path, row)).transpose()?;
            self.ready.push_back(Entry {
                id,
                vector,
                payload,
            });
        }
        Ok(())
    }
}

impl Rows for ParquetRows {
    fn dim(&self) -> usize {
        self.dim
    }

    fn count(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn next_row(&mut self) -> Result<Option<Entry>> {
        if self.ready.is_empty() {
            self.fill()?;
        }
        let Some(entry) = self.ready.pop_front() else {
            return Ok(None);
        };
        let row = self.row - self.ready.len() as u64 - 1;
        if entry.vector.len() != self.dim {
            let got = entry.vector.len();
            let message = format!(
                "row {row}: expected {} dimensions as in the first row, got {got}",
                self.dim
            );
            return Err(refused(&self.path, message));
        }
        check_finite(&self.path, format_args!("row {row}"), &entry.vector)?;
        Ok(Some(entry))
    }
}

/// Finds a column by its top name and checks its type.
fn find(
    path: &Path,
    reader: &SerializedFileReader<Checked>,
    name: &str,
    list: bool,
    needed: bool,
) -> Result<Option<Column>> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let leaves = schema.columns().iter().enumerate();
    let mut found = leaves.filter(|(_, c)| c.path().parts().first().is_some_and(|p| p == name));
    let Some((leaf, column)) = found.next() else {
        if !needed {
            return Ok(None);
        }
        let mut names: Vec<&str> = schema
            .columns()
            .iter()
            .filter_map(|c| c.path().parts().first().map(String::as_str))
            .collect();
        names.dedup();
        let message = format!(
            "expected a column {name:?}, got columns {}; name it with --columns",
            names.join(", ")
        );
        return Err(refused(path, message));
    };
    let physical = column.physical_type();
    let fits = if list {
        column.max_rep_level() == 1 && matches!(physical, Physical::FLOAT | Physical::DOUBLE)
    } else {
        column.max_rep_level() == 0
            && matches!(
                physical,
                Physical::INT32 | Physical::INT64 | Physical::BYTE_ARRAY
            )
    };
    if !fits || found.next().is_some() {
        let expected = if list {
            "a list of float or double"
        } else {
            "integers or texts"
        };
        let depth = column.max_rep_level();
        return Err(refused(
            path,
            format!("column {name:?}: expected {expected}, got {physical} in {depth} lists"),
        ));
    }
    Ok(Some(Column {
        leaf,
        physical,
        def_max: column.max_def_level(),
        list,
    }))
}

/// A value that is not a vector.
#[derive(Clone, Debug)]
enum Scalar {
    Int(i64),
    Bytes(Vec<u8>),
}

impl Scalar {
    fn into_text(self, path: &Path, row: u64) -> Result<String> {
        match self {
            Self::Int(n) => Ok(n.to_string()),
            Self::Bytes(bytes) => String::from_utf8(bytes)
                .map_err(|_| damaged(path, format!("row {row}: a text that is not UTF-8"))),
        }
    }

    fn into_id(self, path: &Path, row: u64) -> Result<PointId> {
        let json = match self {
            Self::Int(n) => serde_json::Value::from(n),
            Self::Bytes(_) => serde_json::Value::from(self.into_text(path, row)?),
        };
        id_from_json(&json).map_err(|e| e.prefixed(format_args!("{}: row {row}", path.display())))
    }

    fn into_payload(self, path: &Path, row: u64) -> Result<serde_json::Value> {
        let text = self.into_text(path, row)?;
        serde_json::from_str(&text).map_err(|e| {
            refused(
                path,
                format!("row {row}: expected JSON in the payload column: {e}"),
            )
        })
    }
}

/// What one column gave for a number of rows.
struct Levels<T> {
    values: Vec<T>,
    def: Vec<i16>,
    rep: Vec<i16>,
}

fn read_levels<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    column: Column,
    rows: usize,
) -> std::result::Result<Levels<T::T>, ParquetError> {
    let mut levels = Levels {
        values: Vec::new(),
        def: Vec::new(),
        rep: Vec::new(),
    };
    let mut done = 0;
    while done < rows {
        let def = (column.def_max > 0).then_some(&mut levels.def);
        let rep = column.list.then_some(&mut levels.rep);
        let (records, values, _) =
            reader.read_records(rows - done, def, rep, &mut levels.values)?;
        if records == 0 && values == 0 {
            break;
        }
        done += records;
    }
    Ok(levels)
}

fn wrong_type() -> ParquetError {
    ParquetError::General("the column's pages are of another type than its schema".to_owned())
}

/// Lists of numbers; `None` for a null list or a null in a list.
fn read_vectors(
    reader: &mut ColumnReader,
    column: Column,
    rows: usize,
) -> std::result::Result<Vec<Option<Vec<f32>>>, ParquetError> {
    let levels = match (reader, column.physical) {
        (ColumnReader::FloatColumnReader(r), _) => read_levels::<FloatType>(r, column, rows)?,
        (ColumnReader::DoubleColumnReader(r), _) => {
            let levels = read_levels::<DoubleType>(r, column, rows)?;
            let values = levels.values.into_iter().map(|x| x as f32).collect();
            Levels {
                values,
                def: levels.def,
                rep: levels.rep,
            }
        }
        _ => return Err(wrong_type()),
    };
    let mut values = levels.values.into_iter();
    let mut vectors: Vec<Option<Vec<f32>>> = Vec::new();
    for (i, rep) in levels.rep.iter().enumerate() {
        if *rep == 0 {
            vectors.push(Some(Vec::new()));
        }
        let present = levels.def.get(i).is_none_or(|d| *d == column.def_max);
        let Some(last) = vectors.last_mut() else {
            return Err(ParquetError::General(
                "a list begins in its middle".to_owned(),
            ));
        };
        if !present {
            *last = None;
        } else if let (Some(value), Some(vector)) = (values.next(), last.as_mut()) {
            vector.push(value);
        }
    }
    Ok(vectors)
}

/// Single values; `None` for null.
fn read_scalars(
    reader: &mut ColumnReader,
    column: Column,
    rows: usize,
) -> std::result::Result<Vec<Option<Scalar>>, ParquetError> {
    fn spread<T>(
        levels: Levels<T>,
        def_max: i16,
        wrap: impl Fn(T) -> Scalar,
    ) -> Vec<Option<Scalar>> {
        let mut values = levels.values.into_iter().map(wrap);
        if def_max == 0 {
            return values.map(Some).collect();
        }
        levels
            .def
            .iter()
            .map(|d| if *d == def_max { values.next() } else { None })
            .collect()
    }
    let def_max = column.def_max;
    Ok(match reader {
        ColumnReader::Int32ColumnReader(r) => {
            spread(read_levels::<Int32Type>(r, column, rows)?, def_max, |n| {
                Scalar::Int(i64::from(n))
            })
        }
        ColumnReader::Int64ColumnReader(r) => spread(
            read_levels::<Int64Type>(r, column, rows)?,
            def_max,
            Scalar::Int,
        ),
        ColumnReader::ByteArrayColumnReader(r) => spread(
            read_levels::<ByteArrayType>(r, column, rows)?,
            def_max,
            |b| Scalar::Bytes(b.data().to_vec()),
        ),
        _ => return Err(wrong_type()),
    })
}
