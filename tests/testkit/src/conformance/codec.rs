//! Conformance of the [`Codec`] role: every sentence of its contract, and of [`ByteCodec`](aether_core::role::ByteCodec)'s where the codec is one.
//!
//! ```text
//! aether_testkit::codec_conformance!(lz4, CodecHarness::new(&aether_codec_lz4::PLUGIN, &["", "shuffle = false"]));
//! ```

mod bytes;
mod damage;
mod vectors;

use std::sync::Arc;

use aether_core::config::RawConfig;
use aether_core::plugin::{Factory, Plugin};
use aether_core::role::Codec;
use aether_core::vector::{Shape, VectorBlock};
use aether_core::{Metric, Result};

use super::{check_options_with, context};

pub use bytes::*;
pub use damage::*;
pub use vectors::*;

/// The codec under test: a plug-in and the settings to build it with.
#[derive(Clone, Copy, Debug)]
pub struct CodecHarness {
    /// The plug-in.
    pub plugin: &'static Plugin,
    /// Sets of its keys as TOML text; every check runs with each, and each must read what any other wrote.
    pub settings: &'static [&'static str],
}

impl CodecHarness {
    /// A plug-in with sets of settings, `""` for its defaults.
    pub const fn new(plugin: &'static Plugin, settings: &'static [&'static str]) -> Self {
        Self { plugin, settings }
    }

    /// Builds an instance.
    ///
    /// # Panics
    /// When the plug-in is no codec or its factory fails.
    pub fn build(&self, keys: &str) -> Arc<dyn Codec> {
        let Factory::Codec(id, build) = self.plugin.factory else {
            panic!("plug-in {:?} is not a codec", self.plugin.name);
        };
        let raw = RawConfig::from_toml("codec", keys).expect("TOML");
        let codec = build(&raw, &context(8, Metric::L2, None))
            .unwrap_or_else(|e| panic!("building {:?} with {keys:?}: {e}", self.plugin.name));
        assert_eq!(
            codec.id(),
            id,
            "an instance must answer the plug-in's number"
        );
        codec
    }

    /// An instance for each set of settings.
    pub fn all(&self) -> impl Iterator<Item = Arc<dyn Codec>> + '_ {
        assert!(
            !self.settings.is_empty(),
            "a harness needs settings, \"\" for defaults"
        );
        self.settings.iter().map(|keys| self.build(keys))
    }
}

/// Checks the listed options of the plug-in.
///
/// # Panics
/// As [`super::check_options_with`].
pub fn options_are_those_of_the_struct(h: &CodecHarness) {
    check_options_with(h.plugin, h.settings[0]);
}

pub(crate) fn block(data: &[f32], dim: usize) -> VectorBlock<'_> {
    let shape = Shape {
        rows: data.len() / dim,
        dim,
    };
    VectorBlock::new(data, shape).expect("a block of whole vectors")
}

pub(crate) fn encode(codec: &dyn Codec, data: &[f32], dim: usize) -> Vec<u8> {
    let mut out = Vec::new();
    codec
        .encode(block(data, dim), &mut out)
        .expect("an encoding of finite vectors of moderate size");
    out
}

pub(crate) fn decode(codec: &dyn Codec, bytes: &[u8], rows: usize, dim: usize) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    codec.decode(bytes, Shape { rows, dim }, &mut out)?;
    Ok(out)
}

pub(crate) fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|x| x.to_bits()).collect()
}

/// Vectors such as embeddings: unit length or so, components of both signs.
pub(crate) fn sample(seed: u64, rows: usize, dim: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut component = || rng.f32() + rng.f32() + rng.f32() - 1.5;
    (0..rows * dim)
        .map(|_| component() / (dim as f32).sqrt())
        .collect()
}

/// Checks that `got` is what a codec of this fidelity may give back for `put`.
pub(crate) fn check_fidelity(codec: &dyn Codec, put: &[f32], got: &[f32], dim: usize) {
    let fidelity = codec.fidelity();
    assert_eq!(got.len(), put.len(), "exactly shape.len() floats");
    if fidelity.is_exact() {
        assert_eq!(
            bits(got),
            bits(put),
            "an exact codec must give back every bit"
        );
        return;
    }
    for (row, (put, got)) in put.chunks_exact(dim).zip(got.chunks_exact(dim)).enumerate() {
        let max = put.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let min = put.iter().copied().fold(f32::INFINITY, f32::min);
        for (i, (x, y)) in put.iter().zip(got).enumerate() {
            let error = (f64::from(*x) - f64::from(*y)).abs();
            let bound = f64::from(fidelity.bound(*x, max - min));
            assert!(
                error <= bound && y.is_finite(),
                "row {row}, component {i}: {x} came back as {y}, off by {error:e}; the bound is {bound:e}"
            );
        }
    }
}

/// Makes a module with one `#[test]` for each check of the [`Codec`](aether_core::role::Codec) contract.
///
/// `codec_conformance!(name, harness)`, where `harness` is an expression of type
/// [`CodecHarness`](crate::conformance::codec::CodecHarness).
#[macro_export]
macro_rules! codec_conformance {
    ($name:ident, $harness:expr $(,)?) => {
        $crate::codec_conformance!(@all tests $name, $harness);
    };
    (@all $kind:ident $($rest:tt)*) => {
        $crate::codec_conformance! { @$kind [
            options_are_those_of_the_struct,
            number_and_fidelity_are_stated,
            vectors_come_back_within_the_fidelity,
            any_bits_come_back_from_an_exact_codec,
            values_out_of_range_are_refused_by_name,
            blocks_of_every_shape_come_back,
            output_is_appended,
            encoding_is_deterministic,
            settings_read_each_other,
            callers_may_share_an_instance,
            flipped_bits_are_found,
            cuts_and_additions_are_found,
            other_shapes_are_refused,
            garbage_is_refused,
            nothing_is_allocated_beyond_the_shape,
            plain_bytes_come_back,
            damaged_bytes_are_refused,
        ] $($rest)* }
    };
    (@tests [$($check:ident,)*] $name:ident, $harness:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(
                #[test]
                fn $check() {
                    $crate::conformance::codec::$check(&$harness);
                }
            )*
        }
    };
    (@list [$($check:ident,)*]) => {
        &[$((stringify!($check), $crate::conformance::codec::$check as $crate::conformance::codec::CodecCheck)),*]
    };
}

/// One check: panics when the promise is broken.
pub type CodecCheck = fn(&CodecHarness);

/// Every check by name.
pub const CHECKS: &[(&str, CodecCheck)] = crate::codec_conformance!(@all list);

/// Compares what the plug-in writes and reads with a file kept from the first version of its format: a block of 8 rows of dimension 12
/// with default settings. `same_bytes`: whether the bytes written must be those of the file, too; not so where a compression library
/// may find another packing one day. With `AETHER_BLESS=1` in the environment the file is written instead.
///
/// # Panics
/// When the file cannot be read, decodes to something else, or is no longer what is written.
#[allow(clippy::disallowed_methods, reason = "a test's own switch")]
pub fn check_golden(h: &CodecHarness, path: &str, same_bytes: bool) {
    let (rows, dim) = (8, 12);
    // Halves, quarters and eighths with runs of equal numbers, so that the block packs, and all rows differ.
    let data: Vec<f32> = (0..rows * dim)
        .map(|i| ((i * i) % 23) as f32 / 8.0 - 1.25 + (i / dim) as f32)
        .collect();
    let codec = h.build(h.settings[0]);
    let bytes = encode(codec.as_ref(), &data, dim);
    if std::env::var_os("AETHER_BLESS").is_some() {
        std::fs::write(path, &bytes).expect("a golden file that can be written");
    }
    let golden = std::fs::read(path).expect("a golden file");
    let got = decode(codec.as_ref(), &golden, rows, dim).expect("a block of the first version");
    check_fidelity(codec.as_ref(), &data, &got, dim);
    let fresh = decode(codec.as_ref(), &bytes, rows, dim).expect("a block of this version");
    assert_eq!(
        bits(&got),
        bits(&fresh),
        "old and new blocks must decode alike"
    );
    assert!(
        !same_bytes || bytes == golden,
        "the bytes written have changed: a new version needs a new golden file"
    );
}
