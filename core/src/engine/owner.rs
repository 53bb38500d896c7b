//! Whose cold store it is: a blob beside the segments bears in its name the number of the memory that they belong to.
//!
//! Opening deletes blobs that nothing names, so two memories in one folder or bucket would delete each other's rows; and a folder that is not
//! mounted, or a bucket of another name, would look like a memory whose every segment is lost. The mark tells both from damage.
//!
//! The metadata store has the number first, then the blob is put: after a crash in between it is put at the next opening. What the blob holds
//! is for people who find it, so that no damage to it matters.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::builder::{BLOB_PREFIX, state};
use super::inner::Inner;
use super::record::{Manifest, key};
use crate::error::{Error, Result};
use crate::id::{BlobKey, SegmentId};
use crate::role::{Batch, ColdStore, Table};
use crate::wire::Reader;

/// Where the mark lies.
const MARK_PREFIX: &str = "owner/";
const MARK: &[u8] = b"The segments beside this folder belong to the Aether memory of this number. See core/FORMAT.md.\n";

/// The number of a memory, drawn at its creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner(u128);

impl Owner {
    pub(super) fn decode(value: &[u8]) -> Result<Self> {
        let mut r = Reader::new(value, "the memory's own number");
        let number = u128::from(r.u64()?) | u128::from(r.u64()?) << 64;
        r.end()?;
        Ok(Self(number))
    }

    fn encode(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// Name of its mark.
    fn mark(self) -> Result<BlobKey> {
        BlobKey::new(format!("{MARK_PREFIX}{:032x}", self.0))
    }

    /// Whether a store bears its mark.
    pub(super) async fn has_marked(self, store: &dyn ColdStore) -> Result<bool> {
        Ok(store.size(&self.mark()?).await?.is_some())
    }
}

/// Whether a store bears any memory's mark.
pub(super) async fn is_marked(store: &dyn ColdStore) -> Result<bool> {
    Ok(!store.list(MARK_PREFIX).await?.is_empty())
}

/// What is said of a store with another memory's mark, or blobs.
pub(super) fn not_ours(what: &str) -> Error {
    Error::config(format!(
        "[cold]: {what}; memories cannot share one: give each a folder, bucket or prefix of its own (if the other memory is gone for good, \
         delete its blobs, {BLOB_PREFIX} and {MARK_PREFIX}, first)"
    ))
}

impl Inner {
    /// Makes sure that the cold store is this memory's, and marks it where it is not marked yet. Before anything is deleted from it.
    ///
    /// # Errors
    /// `Config` when it is another memory's. `Corrupt` when nothing of what this memory wrote is there.
    pub(super) async fn claim_store(&self, manifest: &[(SegmentId, Manifest)]) -> Result<()> {
        let store = self.blocks.store();
        let own = state(&*self.meta, key::OWNER).await?;
        let own = own.map(|v| Owner::decode(&v)).transpose()?;
        if let Some(own) = own
            && own.has_marked(&**store).await?
        {
            return Ok(());
        }
        if is_marked(&**store).await? {
            return Err(not_ours("the cold store is another memory's"));
        }
        self.knows_store(manifest).await?;
        let own = match own {
            Some(own) => own,
            None => self.draw_owner().await?,
        };
        let mark = own.mark()?;
        let put = store.put(&mark, Bytes::from_static(MARK)).await;
        put.map_err(|e| e.with("blob", &mark))
    }

    /// Whether an unmarked store may be this memory's: it has one of its segments, or there are none on either side.
    async fn knows_store(&self, manifest: &[(SegmentId, Manifest)]) -> Result<()> {
        let store = self.blocks.store();
        let Some((segment, first)) = manifest.first() else {
            let wrote = self.writer.lock().await.counters.next_segment > 0;
            if !wrote && !store.list(BLOB_PREFIX).await?.is_empty() {
                return Err(not_ours(
                    "the cold store holds segments, and this memory never wrote one",
                ));
            }
            return Ok(());
        };
        for (_, m) in manifest {
            if store.size(&m.blob).await?.is_some() {
                return Ok(());
            }
        }
        Err(Error::corrupt(format!(
            "none of the {} segments of this memory is in its cold store, which is not marked as its own either: expected [cold] to name the \
             folder or bucket that they were written to (is it mounted?), or the blobs in {BLOB_PREFIX} and {MARK_PREFIX} back from a copy",
            manifest.len(),
        ))
        .with("segment", segment)
        .with("blob", &first.blob))
    }

    /// Draws the memory's number and writes it down. No randomness of the machine goes into it, so that the same run gives the same bytes:
    /// the folder, the moment and the seed are this memory's own.
    async fn draw_owner(&self) -> Result<Owner> {
        let writer = self.writer.lock().await;
        let memory = &self.config.memory;
        let mut from = memory.path.to_string_lossy().into_owned().into_bytes();
        for word in [self.timeline.save().1, memory.seed, writer.epoch.0] {
            from.extend_from_slice(&word.to_le_bytes());
        }
        let own = Owner(xxh3_128(&from));
        let mut batch = Batch::new(writer.epoch);
        let name = Bytes::from_static(key::OWNER);
        batch.put(Table::State, name, own.encode().to_vec());
        self.commit_durably(&writer, batch).await?;
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_survives_and_names_its_mark() {
        let own = Owner(0x0123_4567_89AB_CDEF_0FED_CBA9_8765_4321);
        assert_eq!(Owner::decode(&own.encode()).unwrap(), own);
        let mark = own.mark().unwrap();
        assert_eq!(mark.as_str(), "owner/0123456789abcdef0fedcba987654321");
        assert!(Owner::decode(&[0; 15]).is_err());
        assert!(Owner::decode(&[0; 17]).is_err());
    }
}
