//! The partitions as the metadata store has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::inner::Inner;
use super::record::key;
use crate::error::{Error, Result};
use crate::partition::{Partition, Partitions, read_generation};
use crate::role::{Batch, KeyRange, MetaStore, Table};
use crate::vector::Metric;

/// Bytes of centroids read at a time.
const PAGE_BYTES: usize = 8 << 20;

/// Parts of old generations read at a time: each has up to half a megabyte.
const OLD_PAGE: usize = 16;

/// Every pair of the state table whose key begins with `prefix`, in order.
async fn scan_prefix(
    meta: &dyn MetaStore,
    prefix: &[u8],
    page: usize,
    mut visit: impl FnMut(Bytes, Bytes) -> Result<()>,
) -> Result<()> {
    let mut range = KeyRange::prefix(prefix);
    loop {
        let page = meta.scan(Table::State, range.clone(), page).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        range.start = std::ops::Bound::Excluded(last.clone());
        for (k, v) in page {
            visit(k.slice(prefix.len()..), v)?;
        }
    }
}

/// Centroids as the first versions kept them. Their partitions are all in use: rows of each lie in segments.
async fn generations(meta: &dyn MetaStore, dim: usize) -> Result<Vec<Partition>> {
    let mut parts: BTreeMap<u32, Vec<Bytes>> = BTreeMap::new();
    scan_prefix(meta, key::GENERATION, OLD_PAGE, |k, v| {
        let number = k.get(..10).and_then(|n| std::str::from_utf8(n).ok());
        let number = number.and_then(|n| n.parse().ok());
        let number =
            number.ok_or_else(|| Error::corrupt("partition centroids: a key is not a number"))?;
        parts.entry(number).or_default().push(v);
        Ok(())
    })
    .await?;
    let mut all = Vec::new();
    for (number, parts) in parts {
        all.extend(read_generation(number, dim, parts.iter().map(|b| &b[..]))?);
    }
    Ok(all)
}

/// The partitions that are stored, and whether some of them are in the form of the first versions.
pub(super) async fn stored(
    meta: &dyn MetaStore,
    dim: usize,
    metric: Metric,
) -> Result<(Partitions, bool)> {
    let mut all = generations(meta, dim).await?;
    let old = !all.is_empty();
    let page = (PAGE_BYTES / (dim * 4)).clamp(16, 4096);
    scan_prefix(meta, key::PARTITION, page, |k, v| {
        let number = <[u8; 4]>::try_from(&k[..])
            .map_err(|_| Error::corrupt("partition: its key is not a number"))?;
        let number = u32::from_be_bytes(number);
        if number == u32::MAX {
            return Err(Error::corrupt("partition: its number is out of range"));
        }
        all.push(Partition::decode(number, dim, &v)?);
        Ok(())
    })
    .await?;
    Ok((Partitions::read(dim, metric, all), old))
}

impl Inner {
    /// Reads the partitions, and brings those of the first versions into the form of now. Called while the memory opens.
    pub(super) async fn load_partitions(&self) -> Result<Partitions> {
        let (index, old) = stored(&*self.meta, self.dim, self.metric).await?;
        if old {
            self.renew_generations(&index).await?;
        }
        Ok(index)
    }

    /// First all partitions one by one, then away with the old form: a crash in between leaves both, which say the same.
    async fn renew_generations(&self, index: &Partitions) -> Result<()> {
        let writer = self.writer.lock().await;
        let most = self.meta_capability.batch_bytes_max / 2;
        let mut batch = Batch::new(writer.epoch);
        for (set, retired) in [(index.active(), false), (index.retired(), true)] {
            for number in set {
                let Some(value) = index.encode(*number, retired) else {
                    continue;
                };
                if batch.bytes() + value.len() > most {
                    self.commit_durably(&writer, batch).await?;
                    batch = Batch::new(writer.epoch);
                }
                batch.put(Table::State, key::partition(*number), value);
            }
        }
        self.commit_durably(&writer, batch).await?;
        let mut old = Vec::new();
        scan_prefix(&*self.meta, key::GENERATION, OLD_PAGE, |k, _| {
            old.push(Bytes::from([key::GENERATION, &k[..]].concat()));
            Ok(())
        })
        .await?;
        let mut batch = Batch::new(writer.epoch);
        old.into_iter().for_each(|k| batch.delete(Table::State, k));
        self.commit_durably(&writer, batch).await
    }

    /// Forgets partitions that no segment names.
    pub(super) async fn drop_partitions(&self, over: &BTreeSet<u32>) -> Result<()> {
        let writer = self.writer.lock().await;
        let mut batch = Batch::new(writer.epoch);
        for number in over {
            batch.delete(Table::State, key::partition(*number));
        }
        self.commit_durably(&writer, batch).await?;
        let mut cold = self.cold.write();
        let next = cold.index.changed(&[], &BTreeSet::new(), over)?;
        *cold = Arc::new(cold.with_index(Arc::new(next)));
        Ok(())
    }
}
