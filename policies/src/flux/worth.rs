//! What a row is worth: the parts of its keep-value, and their sum as it is stored.

use aether_core::Time;

use crate::books::Books;

use super::figures::{Hot, Past};
use super::{Flux, KEEP_MOST, RECENT_KEEP};

/// Bytes and time of a miss at which neither counts.
const UNIT_BYTES: f64 = 1024.0;
const UNIT_US: f64 = 1000.0;

/// The keep-value of a row that stays by recency: above that of every other, and less with every doubling of its age.
pub(super) fn recent_keep(age_s: f64) -> f64 {
    RECENT_KEEP - (1.0 + age_s).log2()
}

/// The parts of a row's keep-value, in doublings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Uses, decayed to now.
    pub(super) count: f64,
    /// log2 of the count; its lower bound without any.
    pub(super) reuse: f64,
    pub(super) importance: f64,
    /// log2(1 + weight * importance).
    pub(super) importance_gain: f64,
    pub(super) restore_us: f64,
    /// log2 of the cost of a miss, in milliseconds.
    pub(super) cost: f64,
    pub(super) bytes: f64,
    /// -log2 of the size, in KiB.
    pub(super) size: f64,
}

impl Terms {
    pub(super) fn value(&self) -> f64 {
        self.importance_gain + self.cost + self.size
    }

    pub(super) fn keep(&self) -> f64 {
        (self.reuse + self.value()).clamp(-KEEP_MOST, KEEP_MOST)
    }
}

impl Flux {
    pub(super) fn importance(&self, past: Past, now: Time) -> f64 {
        if past.importance() == 0.0 {
            return 0.0;
        }
        let left = (-past.judged_age_s(now) / self.importance_half_life_s).exp2();
        past.importance() * left
    }

    pub(super) fn bytes_of(&self, bytes: u32) -> f64 {
        match bytes {
            0 => self.mean_bytes.max(1.0),
            bytes => f64::from(bytes),
        }
    }

    pub(super) fn size_value(&self, bytes: u32) -> f64 {
        -(self.bytes_of(bytes) / UNIT_BYTES).log2()
    }

    pub(super) fn terms(&self, past: Past, restore_us: f64, bytes: u32, now: Time) -> Terms {
        let count = past.score.count(self.now);
        let importance = self.importance(past, now);
        Terms {
            count,
            reuse: past
                .score
                .value()
                .map_or(-self.now, |score| score - self.now),
            importance,
            importance_gain: self.importance_gain(importance),
            restore_us,
            cost: ((self.miss_cost_us + restore_us) / UNIT_US).log2(),
            bytes: self.bytes_of(bytes),
            size: self.size_value(bytes),
        }
    }

    pub(super) fn terms_of(&self, books: &Books<Hot>, slot: u32, now: Time) -> Terms {
        let hot = books.figures(slot);
        self.terms(hot.past(), hot.restore_us(), books.weight(slot), now)
    }

    /// A hot row's worth, which waiting does not change: [`Terms::keep`] with virtual time added, and no less than 0.
    pub(super) fn worth(&self, books: &Books<Hot>, slot: u32, now: Time) -> f64 {
        let (hot, bytes) = (books.figures(slot), books.weight(slot));
        let past = hot.past();
        let (restore_us, bytes_us, price) = self.priced;
        let price = match bytes > 0 && bytes == bytes_us && hot.restore_us() == restore_us {
            true => price,
            false => self.price(hot.restore_us(), bytes),
        };
        let importance = self.importance(past, now);
        let value = match importance > 0.0 {
            true => price + self.importance_gain(importance),
            false => price,
        };
        { past.score }.value().unwrap_or(0.0) + value.clamp(-KEEP_MOST, KEEP_MOST) + KEEP_MOST
    }

    pub(super) fn importance_gain(&self, importance: f64) -> f64 {
        (1.0 + self.importance_weight * importance).log2()
    }

    /// log2 of the cost of a miss over the size.
    pub(super) fn price(&self, restore_us: f64, bytes: u32) -> f64 {
        ((self.miss_cost_us + restore_us) / UNIT_US).log2() + self.size_value(bytes)
    }

    pub(super) fn keep_of(&self, books: &Books<Hot>, slot: u32, now: Time) -> f64 {
        let hot = books.figures(slot);
        match hot.recent() {
            true => recent_keep(hot.used_age_s(now)),
            false => self.terms_of(books, slot, now).keep(),
        }
    }

    pub(super) fn judged(&self, past: Past, reward: f32, now: Time) -> Past {
        let before = self.importance(past, now);
        let after = before + self.importance_rate * (f64::from(reward) - before);
        past.judged_at(now, after)
    }

    /// Tells the trials of a use, if its row is in their sample: what the row was worth beside its score, and that a hit of an
    /// important row counts for as many as its importance says.
    pub(super) fn simulate(&mut self, past: Past, restore_us: f64, now: Time) {
        let Some((row, bytes, _)) = self.sampled.take() else {
            return;
        };
        let gain = match self.importance(past, now) {
            importance if importance > 0.0 => self.importance_gain(importance),
            _ => 0.0,
        };
        let value = (self.price(restore_us, bytes) + gain) as f32;
        let bytes = self.bytes_of(bytes) as u32;
        self.steer.used(row, bytes, value, gain.exp2());
    }
}
