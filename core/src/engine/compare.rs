//! Compares a sample of the bounded searches with the truth, in the background: to know their recall, and to learn how far to probe.
//!
//! The truth is a search of every partition, whose bounds leave out a true answer once in 15,000 times, beside an exact scan of the hot
//! tier. Reading every cold row instead would cost a thousand times as much and tell the same.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::cold_scan::Seen;
use super::cold_search::{Bounded, Reach};
use super::inner::Inner;
use super::query::{Moment, NamedHits, merge};
use super::types::{Answer, SearchRequest};
use crate::config::SearchMode;
use crate::error::Result;
use crate::id::Row;
use crate::role::Neighbor;
use crate::seal::checksum;

/// Standard deviations of the bounds of a search for the truth.
const SURE: f32 = 4.0;
/// While little is known, one search in so many is compared.
const EARLY: u64 = 4;

impl Inner {
    /// A bounded search as the request and the configuration want it.
    pub(super) fn bounded<'a>(
        &self,
        request: &SearchRequest,
        deadline: Instant,
        hot: &'a [Neighbor],
        most: usize,
    ) -> Bounded<'a> {
        let config = &self.config;
        let recall = || Reach::Recall(request.recall.unwrap_or(config.search.recall));
        let budget = config.search.read_budget.0;
        Bounded {
            reach: request.probe.map_or_else(recall, Reach::Share),
            deviations: self.deviations,
            read_budget: request.read_budget.unwrap_or(budget),
            deadline,
            codes_space: self.codes_space(),
            hot,
            most,
        }
    }

    /// Compares an answer with the truth if its turn has come. `high` is what it saw.
    pub(super) fn consider_comparing(
        self: &Arc<Self>,
        request: &Arc<SearchRequest>,
        answer: &Answer,
        high: u64,
    ) {
        let share = self.config.search.compare;
        let bounded = answer.coverage.mode == SearchMode::Bounded && answer.coverage.is_whole();
        let usual = request.probe.is_none() && request.filter.is_none();
        if share <= 0.0 || !bounded || !usual || answer.coverage.cold_rows == 0 {
            return;
        }
        let every = if self.probing.is_new() {
            EARLY
        } else {
            (1.0 / share).ceil() as u64
        };
        // Drawn, not counted off: a caller that repeats a list of queries would have the same few compared again and again.
        let turn = self.counts.searches.load(Ordering::Relaxed).to_le_bytes();
        let draw = checksum(&turn, self.config.memory.seed);
        if !draw.is_multiple_of(every) || self.visible.load(Ordering::Acquire) != high {
            return;
        }
        let Some(one) = self.probing.begin() else {
            return;
        };
        let (inner, request) = (self.clone(), request.clone());
        let found: HashSet<Row> = answer.hits.iter().map(|h| h.row).collect();
        tokio::spawn(async move {
            let begun = Instant::now();
            if let Err(error) = inner.compare(&request, &found, high).await {
                tracing::debug!(%error, "a search could not be compared with the truth");
            }
            inner.probing.rest(begun.elapsed());
            drop(one);
        });
    }

    async fn compare(
        self: &Arc<Self>,
        request: &Arc<SearchRequest>,
        found: &HashSet<Row>,
        high: u64,
    ) -> Result<()> {
        self.check_open()?;
        let _ticket = self.readers.enter();
        let allowed = self.config.search.deadline.0;
        let deadline = Instant::now() + allowed.min(Duration::from_secs(3600));
        let (now_high, view) = self.moment();
        let moment = Moment {
            inner: self,
            high: now_high,
            view,
            now: self.now(),
        };
        if moment.high != high {
            return Ok(());
        }
        let mut asked = (**request).clone();
        asked.parts = super::types::Parts::NONE;
        asked.touch = false;
        let asked = Arc::new(asked);
        let hot = (self.search_hot(&moment, &asked, SearchMode::Complete)).await?;
        let seen = Seen {
            inner: self.clone(),
            request: asked.clone(),
            high,
        };
        let whole = Bounded {
            reach: Reach::All,
            deviations: SURE,
            read_budget: u64::MAX,
            deadline,
            // Nobody waits for a comparison, and searches must not wait for it either: they have the other half.
            codes_space: self.codes_space() / 2,
            hot: &hot,
            // Some may have expired.
            most: request.k + 16,
        };
        let scan = self.search_codes(&moment.view, &seen, &whole).await?;
        if !scan.cuts.is_empty() {
            return Ok(());
        }
        let merged = merge(&hot, &scan.found);
        let named = (self.name_hits(&moment, &asked, merged, Some(&scan.named), deadline)).await?;
        let Some(NamedHits {
            hits: truth,
            expired,
            cuts,
            ..
        }) = named.filter(|_| self.visible.load(Ordering::Acquire) == high)
        else {
            return Ok(());
        };
        let last = truth.last().map(|h| h.distance);
        if !cuts.is_empty() || scan.crowded(expired, truth.len(), last, request.k) {
            return Ok(());
        }
        let partitions: HashMap<Row, u32> = scan.partitions.into_iter().collect();
        let of = |row: &Row| partitions.get(row).copied();
        let answers: Vec<u32> = truth.iter().filter_map(|h| of(&h.row)).collect();
        let ranked = moment.view.ranks(&request.vector);
        let rows_of = |p: u32| moment.view.cell(p).map_or(0, |c| c.rows);
        self.probing.learn(&ranked, rows_of, &answers);
        let hits = truth.iter().filter(|h| found.contains(&h.row)).count();
        self.probing.note_recall(hits, truth.len());
        self.counts
            .searches_compared
            .fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
