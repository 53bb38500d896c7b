//! Immutable blobs.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::id::BlobKey;

use super::Usage;

/// One blob of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its name.
    pub key: BlobKey,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Immutable blobs under engine-made names. An author writes five short methods.
///
/// **Atomicity.** A blob is there whole or not at all, for every reader, also after a crash in mid-put.
/// **Durability.** When `put` returns `Ok`, the blob survives a power cut as far as the medium can promise it.
/// **Repetition.** `put` of the same bytes under the same key, and `delete` of what is gone, are `Ok`.
/// **Threads.** All methods may run at once. None blocks an async worker. A dropped future may or may not have
/// had its effect.
/// **Errors.** `Unavailable` carries [`Retry`](crate::error::Retry): `Later` when surely nothing happened, `Unknown` when
/// the reply was lost; the engine looks an unknown outcome up and never guesses.
#[async_trait]
pub trait ColdStore: fmt::Debug + Send + Sync + 'static {
    /// Creates a blob; durable and whole on return, or absent.
    ///
    /// # Errors
    /// `Conflict` when the key holds other bytes, which stay. `Capacity` when the medium is full; nothing is left behind.
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()>;

    /// Reads byte ranges of one blob, answers in the order asked; ranges may overlap, and an empty range gives
    /// empty bytes. `None` when there is no such blob. A store coalesces near ranges where that is cheaper.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is reversed or reaches beyond the blob's end; the message names range and length.
    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>>;

    /// A blob's length in bytes; `None` when there is no such blob.
    async fn size(&self, key: &BlobKey) -> Result<Option<u64>>;

    /// Deletes a blob; `Ok` if it was not there.
    async fn delete(&self, key: &BlobKey) -> Result<()>;

    /// All blobs whose key starts with `prefix` (any text; `""` lists all), sorted by key. Leftovers of puts that were
    /// cut short are never listed. On stores with eventual listings a blob put or deleted within the last moments may be
    /// missing or still be shown; the engine never takes a listing for the truth about a blob it may need.
    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>>;

    /// What was asked of the medium since the store was opened, for a store whose requests are not one for one its calls. `None`, as
    /// the default says, lets the engine count calls. A store that wraps another one passes its answer on.
    fn usage(&self) -> Option<Usage> {
        None
    }

    /// Tells that the engine has checked the checksums of these bytes of a blob. A store that caches keeps what it read only then; the
    /// default keeps nothing. A store that wraps another one passes it on. Must not wait for anything.
    fn verified(&self, _key: &BlobKey, _range: Range<u64>, _bytes: &Bytes) {}
}
