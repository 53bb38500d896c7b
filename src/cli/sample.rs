//! Rows drawn from a file, for commands that try things out on data of one's own.

use std::path::Path;

use aether::import::{Format, Import, Matrix, Options};
use aether::{Error, Metric, Result};

use super::{Done, Failure};

/// Rows drawn from a file, each with equal odds.
pub(crate) struct Sample {
    /// Rows that were looked at.
    pub(crate) rows: u64,
    pub(crate) vectors: Matrix,
}

impl Sample {
    /// Draws up to `size` rows. Algorithm R (Vitter, "Random sampling with a reservoir", 1985): one pass, RAM for the sample only.
    pub(crate) fn draw(
        file: &Path,
        format: Option<Format>,
        limit: Option<u64>,
        size: usize,
        seed: u64,
    ) -> Result<Self> {
        let options = Options {
            format,
            limit,
            ..Options::default()
        };
        let import = Import::open(file, &options)?;
        let dim = import.dim();
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut kept: Vec<Vec<f32>> = Vec::new();
        let mut rows = 0u64;
        for point in import {
            let vector = point?.vector;
            if kept.len() < size {
                kept.push(vector);
            } else if let Ok(place) = usize::try_from(rng.u64(0..=rows))
                && let Some(held) = kept.get_mut(place)
            {
                *held = vector;
            }
            rows += 1;
        }
        if kept.len() < 2 {
            return Err(Error::invalid_input(format!(
                "{}: expected at least 2 rows to compare, got {}",
                file.display(),
                kept.len()
            )));
        }
        let vectors = Matrix::new(dim, kept.concat())?;
        Ok(Self { rows, vectors })
    }
}

/// A metric by its name.
pub(crate) fn metric(name: &str) -> Done<Metric> {
    let found = Metric::ALL.into_iter().find(|m| m.name() == name);
    found.ok_or_else(|| {
        Failure::usage(format!(
            "--metric: expected l2, inner-product or cosine, got {name:?}"
        ))
    })
}
