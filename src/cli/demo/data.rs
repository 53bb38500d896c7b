//! The data set of the demo: speeches, and questions about them.

use std::path::{Path, PathBuf};

use aether::import::{Import, Matrix, Options, Truth};
use aether::{Error, Metric, Point, PointId};
use serde_json::Value;

use super::K;
use crate::cli::Done;

/// Speeches with their vectors, questions with theirs, and the exact answers.
#[derive(Debug)]
pub(super) struct Speeches {
    pub(super) vectors: Matrix,
    pub(super) payloads: Vec<Value>,
    pub(super) queries: Matrix,
    pub(super) questions: Vec<String>,
    pub(super) truth: Truth,
}

/// Where the repository keeps the data.
const FOLDER: &str = "examples/data/shakespeare";

impl Speeches {
    /// Reads the data set from a folder, or from where the repository keeps it.
    pub(super) fn load(folder: Option<&Path>) -> Done<Self> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => find()?,
        };
        let options = Options {
            payloads: Some(folder.join("speeches.jsonl")),
            ..Options::default()
        };
        let points: Vec<Point> = Import::open(folder.join("speeches.f16.npy"), &options)?
            .collect::<aether::Result<_>>()?;
        let dim = points.first().map_or(1, |p| p.vector.len());
        let (vectors, payloads): (Vec<_>, Vec<_>) = points
            .into_iter()
            .map(|p| (p.vector, p.payload.unwrap_or_default()))
            .unzip();
        let vectors = Matrix::new(dim, vectors.concat())?;
        let queries = Matrix::read(folder.join("queries.f16.npy"), &Options::default())?;
        let path = folder.join("queries.txt");
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Error::invalid_input(format!("{}: cannot read the questions", path.display()))
                .with_source(e)
        })?;
        let questions: Vec<String> = text.lines().map(str::to_owned).collect();
        if questions.len() != queries.rows() || queries.dim() != dim {
            return Err(Error::invalid_input(format!(
                "{}: expected {} questions, one for each vector of queries.f16.npy, and vectors of {dim} dimensions; got {} and {}",
                path.display(),
                queries.rows(),
                questions.len(),
                queries.dim()
            ))
            .into());
        }
        let truth = Truth::compute(&vectors, &queries, Metric::Cosine, K);
        Ok(Self {
            vectors,
            payloads,
            queries,
            questions,
            truth,
        })
    }

    /// The speeches' vectors alone, for the child that is killed.
    pub(super) fn vectors_only(folder: Option<&Path>) -> Done<Self> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => find()?,
        };
        let vectors = Matrix::read(folder.join("speeches.f16.npy"), &Options::default())?;
        let queries = Matrix::new(vectors.dim(), Vec::new())?;
        let truth = Truth::compute(&vectors, &queries, Metric::Cosine, K);
        Ok(Self {
            vectors,
            payloads: Vec::new(),
            queries,
            questions: Vec::new(),
            truth,
        })
    }

    /// The vector that belongs to any id: the speeches come round again.
    pub(super) fn vector_named(&self, id: u64) -> &[f32] {
        self.vectors.row((id % self.vectors.rows() as u64) as usize)
    }

    /// A point of any id, without a payload.
    pub(super) fn point_named(&self, id: u64) -> Point {
        Point::new(PointId::Int(id), self.vector_named(id).to_vec())
    }

    /// One speech as a point; its id is its row number.
    pub(super) fn point(&self, row: usize) -> Point {
        Point::new(PointId::Int(row as u64), self.vectors.row(row).to_vec())
            .with_payload(self.payloads[row].clone())
    }

    /// Share of the exact answers of a query among `found`. A row that is as near as the last exact one counts as well, so that
    /// two speeches at one distance do not look like an error.
    pub(super) fn recall(&self, query: usize, found: &[u64]) -> f64 {
        let truth = self.truth.of(query, K);
        let distance =
            |row: usize| Metric::Cosine.distance(self.queries.row(query), self.vectors.row(row));
        let Some(last) = truth.last() else {
            return 1.0;
        };
        let limit = distance(*last as usize) + 1e-6;
        let good = found.iter().filter(|row| {
            (**row as usize) < self.vectors.rows() && distance(**row as usize) <= limit
        });
        good.count().min(truth.len()) as f64 / truth.len() as f64
    }
}

/// Looks for the repository's data: from the working directory, else from where this program was built.
fn find() -> Done<PathBuf> {
    let places = [
        PathBuf::from(FOLDER),
        Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER),
    ];
    places.iter().find(|p| p.join("speeches.f16.npy").is_file()).cloned().ok_or_else(|| {
        Error::invalid_input(format!("no data set: expected {FOLDER} in the working directory; name its folder with --data")).into()
    })
}
