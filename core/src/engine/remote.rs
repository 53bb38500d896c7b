//! The cold store's requests and their price, over the memory's whole life.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use serde::Serialize;

use super::builder::state;
use super::inner::Inner;
use super::record::key;
use crate::config::RemoteConfig;
use crate::error::Result;
use crate::layer::{Dollars, LayerCounts, Ledger, wrap};
use crate::role::{Batch, ColdStore, MetaStore, Table};

/// What was counted before this opening, and by the layers since.
#[derive(Debug)]
pub(crate) struct Remote {
    before: Ledger,
    layers: Arc<LayerCounts>,
}

/// How the cold store was asked, and what it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RemoteStats {
    /// Requests, bytes and searches since the memory was created, as of the last flush where the process was killed.
    #[serde(flatten)]
    pub ledger: Ledger,
    /// Their price by `[remote]`.
    pub dollars: Dollars,
    /// Reads sent a second time because they were late, since the memory was opened.
    pub hedged: u64,
    /// Those whose second request answered first.
    pub hedges_won: u64,
    /// Calls repeated because they failed for now, since the memory was opened.
    pub retried: u64,
}

impl Remote {
    /// Puts the layers around a store, and reads what was counted before.
    pub(super) async fn open(
        store: Arc<dyn ColdStore>,
        meta: &dyn MetaStore,
        config: &RemoteConfig,
        seed: u64,
    ) -> Result<(Arc<dyn ColdStore>, Self)> {
        let before = match state(meta, key::LEDGER).await? {
            // A count is not worth a memory that does not open.
            Some(value) => Ledger::decode(&value).unwrap_or_else(|error| {
                tracing::warn!(%error, "requests are counted anew");
                Ledger::default()
            }),
            None => Ledger::default(),
        };
        let layers = Arc::new(LayerCounts::default());
        let store = wrap(store, config, seed, &layers);
        Ok((store, Self { before, layers }))
    }
}

impl Inner {
    pub(super) fn ledger(&self) -> Ledger {
        let usage = self.blocks.store().usage().unwrap_or_default();
        let counts = &self.counts;
        self.remote.before.plus(Ledger {
            usage,
            searches: counts.searches.load(Relaxed),
            segment_bytes: counts.cold_written_bytes.load(Relaxed),
            demoted_bytes: counts.demoted_bytes.load(Relaxed),
        })
    }

    /// Writes the ledger down with whatever else is flushed.
    pub(super) fn flush_ledger(&self, batch: &mut Batch) {
        let name = Bytes::from_static(key::LEDGER);
        batch.put(Table::State, name, self.ledger().encode());
    }

    /// `stored` bytes in the cold store hold `rows` live rows.
    pub(super) fn remote_stats(&self, stored: u64, rows: u64) -> RemoteStats {
        let (ledger, layers) = (self.ledger(), &self.remote.layers);
        let plain = rows * self.dim as u64 * 4;
        RemoteStats {
            ledger,
            dollars: Dollars::of(&self.config.remote, &ledger, stored, plain),
            hedged: layers.hedged.load(Relaxed),
            hedges_won: layers.hedges_won.load(Relaxed),
            retried: layers.retried.load(Relaxed),
        }
    }

    /// Tells the scrapers.
    pub(super) fn publish_remote(&self) {
        let view = self.view();
        let s = self.remote_stats(view.blob_bytes(), view.live_rows());
        let u = s.ledger.usage;
        for (kind, n) in [
            ("get", u.gets),
            ("head", u.heads),
            ("put", u.puts),
            ("list", u.lists),
            ("delete", u.deletes),
        ] {
            metrics::counter!("aether_store_requests_total", "kind" => kind).absolute(n);
        }
        for (way, n) in [("read", u.read_bytes), ("written", u.written_bytes)] {
            metrics::counter!("aether_store_bytes_total", "way" => way).absolute(n);
        }
        for (what, n) in [("hedged", s.hedged), ("won", s.hedges_won)] {
            metrics::counter!("aether_store_hedges_total", "what" => what).absolute(n);
        }
        metrics::counter!("aether_store_retries_total").absolute(s.retried);
        let dollars = s.dollars;
        for (what, n) in [("reads", dollars.reads), ("writes", dollars.writes)] {
            metrics::gauge!("aether_store_dollars", "for" => what).set(n);
        }
        metrics::gauge!("aether_store_dollars_month").set(dollars.month);
        let counted = self.counts.read();
        if let Some(share) = counted.cache_hit_rate() {
            metrics::gauge!("aether_cache_hit_ratio").set(share);
        }
    }
}
