//! Whose cold store it is: a blob beside the segments bears in its name the number of the memory that they belong to.
//!
//! Opening deletes blobs that nothing names, so two memories in one folder or bucket would delete each other's rows; and a folder that is not
//! mounted, or a bucket of another name, would look like a memory whose every segment is lost. The mark tells both from damage. It does not
//! tell a memory from a copy of its metadata.
//!
//! The metadata store has the number first, then the blob is put: after a crash in between it is put at the next opening. What the blob holds
//! is for people who find it, so that no damage to it matters.

use std::collections::HashSet;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::builder::{BLOB_PREFIX, collect, state};
use super::inner::Inner;
use super::record::{Manifest, decode_intent, key};
use crate::clock::Clock;
use crate::config::MemoryConfig;
use crate::error::{Error, Result};
use crate::id::{BlobKey, SegmentId};
use crate::role::{Batch, ColdStore, Epoch, MetaStore, Table};
use crate::wire::Reader;

/// Where the mark lies.
const MARK_PREFIX: &str = "owner/";
const MARK: &[u8] = b"The segments beside this folder belong to the Aether memory of this number. See core/FORMAT.md.\n";
/// Segments that a listing lacks and that are asked for by name before they are believed to be missing.
const ASKED_BY_NAME: usize = 16;

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

    /// The number that a memory has, if it has one yet.
    pub(super) async fn of(meta: &dyn MetaStore) -> Result<Option<Self>> {
        let stored = state(meta, key::OWNER).await?;
        stored.map(|value| Self::decode(&value)).transpose()
    }

    /// A number for a memory that has none. The clock has what tells two machines apart; folder, moment and seed are the memory's own.
    pub(super) fn draw(memory: &MemoryConfig, epoch: Epoch, clock: &dyn Clock) -> Self {
        let mut from = memory.path.to_string_lossy().into_owned().into_bytes();
        for word in [memory.seed, epoch.0, clock.wall_us(), clock.nonce()] {
            from.extend_from_slice(&word.to_le_bytes());
        }
        Self(xxh3_128(&from))
    }

    /// Adds it to a batch, which is to be durable before the store is marked.
    pub(super) fn put(self, batch: &mut Batch) {
        let name = Bytes::from_static(key::OWNER);
        batch.put(Table::State, name, self.encode().to_vec());
    }

    /// Puts its mark, and looks whether another memory has put its own meanwhile.
    ///
    /// # Errors
    /// `Config` when another has; then this one's mark is gone again.
    pub(super) async fn mark_store(self, store: &dyn ColdStore) -> Result<()> {
        let mark = self.mark()?;
        let put = store.put(&mark, Bytes::from_static(MARK)).await;
        put.map_err(|e| e.with("blob", &mark))?;
        if let Err(error) = self.refuse_others(store).await {
            store.delete(&mark).await?;
            return Err(error);
        }
        Ok(())
    }

    /// # Errors
    /// `Config` when the store bears another memory's mark.
    pub(super) async fn refuse_others(self, store: &dyn ColdStore) -> Result<()> {
        let own = self.mark()?;
        match marks(store).await?.iter().find(|m| **m != own) {
            Some(other) => Err(not_ours(&format!("it bears the mark {other}"))),
            None => Ok(()),
        }
    }
}

/// For a memory that has no number.
///
/// # Errors
/// `Config` when the store bears a mark.
pub(super) async fn refuse_marked(store: &dyn ColdStore) -> Result<()> {
    match marks(store).await?.first() {
        Some(other) => Err(not_ours(&format!("it bears the mark {other}"))),
        None => Ok(()),
    }
}

/// The marks that a store bears.
async fn marks(store: &dyn ColdStore) -> Result<Vec<BlobKey>> {
    let listed = store.list(MARK_PREFIX).await?;
    Ok(listed.into_iter().map(|blob| blob.key).collect())
}

/// For a memory that has nothing in its cold store: there must be nothing, but for blobs of its own that it noted.
///
/// # Errors
/// `Config` when there are marks or segments.
pub(super) async fn refuse_full(store: &dyn ColdStore, noted: &HashSet<BlobKey>) -> Result<()> {
    let mut found = marks(store).await?;
    let segments = store.list(BLOB_PREFIX).await?;
    found.extend(segments.into_iter().map(|blob| blob.key));
    match found.iter().find(|key| !noted.contains(*key)) {
        Some(blob) => Err(not_ours(&format!(
            "it holds {blob}, of which this memory knows nothing; if no other memory needs what is there, delete {BLOB_PREFIX} and {MARK_PREFIX}"
        ))),
        None => Ok(()),
    }
}

fn not_ours(why: &str) -> Error {
    Error::config(format!(
        "[cold]: expected a store of this memory alone, got another's: {why}. Two memories in one store would delete each other's rows: give \
         each a folder, bucket or prefix of its own"
    ))
}

impl Inner {
    /// Makes sure that the cold store is this memory's, and marks it where it is not marked yet. Before anything is deleted from it.
    ///
    /// # Errors
    /// `Config` when it is another memory's. `Corrupt` when nothing of what this memory wrote is there.
    pub(super) async fn claim_store(&self, manifest: &[(SegmentId, Manifest)]) -> Result<()> {
        let store = &**self.blocks.store();
        let own = Owner::of(&*self.meta).await?;
        if let Some(own) = own {
            own.refuse_others(store).await?;
            // A listing may be late; a blob that is asked for by name is there or not.
            if store.size(&own.mark()?).await?.is_some() {
                return Ok(());
            }
        } else {
            refuse_marked(store).await?;
        }
        self.knows_store(manifest).await?;
        let own = match own {
            Some(own) => own,
            None => {
                let writer = self.writer.lock().await;
                let own = Owner::draw(&self.config.memory, writer.epoch, self.timeline.clock());
                let mut batch = Batch::new(writer.epoch);
                own.put(&mut batch);
                self.commit_durably(&writer, batch).await?;
                own
            }
        };
        own.mark_store(store).await
    }

    /// Whether an unmarked store may be this memory's: it has one of its segments, or there are none on either side.
    async fn knows_store(&self, manifest: &[(SegmentId, Manifest)]) -> Result<()> {
        let store = &**self.blocks.store();
        let Some((segment, first)) = manifest.first() else {
            let mut noted = HashSet::new();
            for (k, v) in collect(&*self.meta, Table::Intents).await? {
                noted.insert(decode_intent(&k, &v)?.0.blob);
            }
            return refuse_full(store, &noted).await;
        };
        let listed = store.list(BLOB_PREFIX).await?;
        let listed: HashSet<BlobKey> = listed.into_iter().map(|b| b.key).collect();
        if manifest.iter().any(|(_, m)| listed.contains(&m.blob)) {
            return Ok(());
        }
        for (_, m) in manifest.iter().take(ASKED_BY_NAME) {
            if store.size(&m.blob).await?.is_some() {
                return Ok(());
            }
        }
        let own = Owner::of(&*self.meta).await?;
        let mark = own.map_or_else(
            || Ok(MARK_PREFIX.to_owned()),
            |own| own.mark().map(|m| m.to_string()),
        )?;
        Err(Error::corrupt(format!(
            "none of the {} segments of this memory is in its cold store, nor is its mark {mark}: expected [cold] to name the folder or bucket that \
             they were written to (is it mounted?), or the blobs in {BLOB_PREFIX} and {MARK_PREFIX} back from a copy. With the mark alone, the \
             memory opens without its segments",
            manifest.len(),
        ))
        .with("segment", segment)
        .with("blob", &first.blob))
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
