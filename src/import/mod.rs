//! Readers of vector files, one row at a time.
//!
//! | ending | what | ids and payloads |
//! |---|---|---|
//! | `.npy`, `.npy.gz` | numpy array `[rows, dim]` of f32, f16 or u8, C order | row numbers; or a side file |
//! | `.fvecs`, `.bvecs` | a length, then so many f32 or u8, row by row | row numbers; or a side file |
//! | `.jsonl` | one object a line: `vector`, and if wanted `id`, `payload` | in the line |
//! | `.parquet` | columns `id`, `vector` (list of floats), `payload` (JSON text); feature `parquet` | in their columns |
//!
//! A file is never believed: sizes in headers are compared with the bytes that are there, memory grows only with what was
//! read, and every number is checked to be finite. Errors name the file and the row or line.

mod jsonl;
mod matrix;
mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod points;
mod truth;
mod vecs;

use std::fmt;
use std::path::{Path, PathBuf};

use aether_core::{Error, PointId, Result};
use serde_json::Value;

pub use matrix::Matrix;
pub use points::Import;
pub use truth::Truth;

/// Longest line of a JSON lines file, in bytes: a vector of the largest dimension and a payload fit many times over.
pub(crate) const LINE_BYTES_MAX: u64 = 32 << 20;

/// The kinds of file that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A numpy array.
    Npy,
    /// A numpy array, compressed by gzip.
    NpyGz,
    /// Rows of f32, each after its length.
    Fvecs,
    /// Rows of u8, each after its length.
    Bvecs,
    /// One JSON object a line.
    Jsonl,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// Every format, by the ending that means it.
    pub const ALL: [(&'static str, Format); 7] = [
        ("npy", Format::Npy),
        ("npy.gz", Format::NpyGz),
        ("fvecs", Format::Fvecs),
        ("bvecs", Format::Bvecs),
        ("jsonl", Format::Jsonl),
        ("ndjson", Format::Jsonl),
        ("parquet", Format::Parquet),
    ];

    /// The format that a file's name ends in.
    ///
    /// # Errors
    /// `InvalidInput` for another ending, with those there are.
    pub fn of(path: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let ends = |ending: &str| {
            name.strip_suffix(ending)
                .is_some_and(|rest| rest.ends_with('.'))
        };
        Self::ALL
            .iter()
            .find(|(ending, _)| ends(ending))
            .map(|(_, format)| *format)
            .ok_or_else(|| {
                let endings: Vec<String> = Self::ALL.iter().map(|(e, _)| format!(".{e}")).collect();
                Error::invalid_input(format!(
                    "{}: expected a name ending in {}; or say which it is with --format",
                    path.display(),
                    endings.join(", ")
                ))
            })
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .find(|(ending, _)| *ending == name)
            .map(|(_, format)| *format)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|(e, _)| *e).collect();
                format!("expected one of {}", names.join(", "))
            })
    }
}

/// Names of the columns of a Parquet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Integers or texts; row numbers are used when there is no such column and it is the default name.
    pub id: String,
    /// Lists of floats.
    pub vector: String,
    /// JSON texts; left out when there is no such column and it is the default name.
    pub payload: String,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            id: "id".to_owned(),
            vector: "vector".to_owned(),
            payload: "payload".to_owned(),
        }
    }
}

/// How a file is to be read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What it is; by its ending if `None`.
    pub format: Option<Format>,
    /// At most so many rows from the beginning.
    pub limit: Option<u64>,
    /// A text file with one id a line, row by row.
    pub ids: Option<PathBuf>,
    /// Put before every id, which becomes a text.
    pub id_prefix: Option<String>,
    /// A JSON lines file with one payload a line, row by row; its field `id`, if any, names the point.
    pub payloads: Option<PathBuf>,
    /// Columns of a Parquet file.
    pub columns: Columns,
}

/// One row as its file has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: Option<PointId>,
    pub(crate) vector: Vec<f32>,
    pub(crate) payload: Option<Value>,
}

impl Entry {
    fn of(vector: Vec<f32>) -> Self {
        Self {
            id: None,
            vector,
            payload: None,
        }
    }
}

/// A file of vectors, read from the beginning.
pub(crate) trait Rows: Send {
    /// Dimension of every row.
    fn dim(&self) -> usize;
    /// Number of rows, where the file tells it before it is read.
    fn count(&self) -> Option<u64>;
    /// The next row. After an error nothing more is read.
    fn next_row(&mut self) -> Result<Option<Entry>>;
}

/// Opens a file and reads as much as tells its dimension.
pub(crate) fn open_rows(path: &Path, options: &Options) -> Result<Box<dyn Rows>> {
    let format = match options.format {
        Some(format) => format,
        None => Format::of(path)?,
    };
    Ok(match format {
        Format::Npy => Box::new(npy::NpyRows::open(path, false)?),
        Format::NpyGz => Box::new(npy::NpyRows::open(path, true)?),
        Format::Fvecs => Box::new(vecs::VecsRows::open(path, vecs::Element::F32)?),
        Format::Bvecs => Box::new(vecs::VecsRows::open(path, vecs::Element::U8)?),
        Format::Jsonl => Box::new(jsonl::JsonlRows::open(path)?),
        #[cfg(feature = "parquet")]
        Format::Parquet => Box::new(parquet::ParquetRows::open(path, &options.columns)?),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => {
            return Err(Error::unsupported(format!(
                "{}: this build cannot read Parquet; build with feature \"parquet\", or convert it to .npy",
                path.display()
            )));
        }
    })
}

/// Wraps what the operating system says about a file.
fn io_error(path: &Path, what: &str, error: std::io::Error) -> Error {
    let message = format!("{}: cannot {what}", path.display());
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::IsADirectory => {
            Error::invalid_input(message)
        }
        std::io::ErrorKind::UnexpectedEof
        | std::io::ErrorKind::InvalidData
        | std::io::ErrorKind::InvalidInput => Error::corrupt(message),
        _ => Error::unavailable(message),
    };
    kind.with_source(error)
}

/// The file's bytes do not mean what they should.
fn damaged(path: &Path, message: impl fmt::Display) -> Error {
    Error::corrupt(format!("{}: {message}", path.display()))
}

/// The file is sound, but holds what cannot be used.
fn refused(path: &Path, message: impl fmt::Display) -> Error {
    Error::invalid_input(format!("{}: {message}", path.display()))
}

/// Refuses NaN and infinity, naming the place.
fn check_finite(path: &Path, place: impl fmt::Display, vector: &[f32]) -> Result<()> {
    match vector.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(i) => Err(refused(
            path,
            format!(
                "{place}, vector[{i}]: expected a finite number, got {}",
                vector[i]
            ),
        )),
    }
}

/// Refuses a dimension that no memory has.
fn check_dim(path: &Path, dim: u64) -> Result<usize> {
    let max = aether_core::vector::DIM_MAX;
    usize::try_from(dim)
        .ok()
        .filter(|d| (1..=max).contains(d))
        .ok_or_else(|| {
            refused(
                path,
                format!("expected vectors of 1 to {max} dimensions, got {dim}"),
            )
        })
}

/// Reads a text as people write an id: an integer, a UUID, else the text itself.
///
/// # Errors
/// `InvalidInput` for an empty or too long text.
pub fn parse_id(text: &str) -> Result<PointId> {
    let id = match serde_json::from_value::<PointId>(Value::String(text.to_owned())) {
        // A text of digits is meant as an integer when a person types it.
        Ok(PointId::Text(t)) => t.parse::<u64>().map_or(PointId::Text(t), PointId::Int),
        Ok(id) => id,
        Err(e) => {
            return Err(Error::invalid_input(format!("id {text:?}: not an id")).with_source(e));
        }
    };
    id.validate()?;
    Ok(id)
}

/// Reads an id out of JSON: a non-negative integer or a text (a UUID's text is a UUID).
pub(crate) fn id_from_json(value: &Value) -> Result<PointId> {
    let id: PointId = serde_json::from_value(value.clone()).map_err(|_| {
        Error::invalid_input(format!(
            "id: expected a non-negative integer, a UUID or a text, got {value}"
        ))
    })?;
    id.validate()?;
    Ok(id)
}
