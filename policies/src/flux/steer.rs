//! Chooses half-life and share of recency by trying them on a sample of the rows.
//!
//! Every setting of [`SETTINGS`] is simulated on the rows whose hash falls into the sample, with a capacity as much smaller (Waldspurger,
//! Saemundsson, Ahmad, Park, "Cache Modeling and Optimization using Miniature Simulations", USENIX ATC 2017). The rate is a power
//! of two such that a miniature holds at most a quarter of the sample's slots, and these follow the number of hot rows.
//!
//! **Safety.** The first setting is plain recency. Another one is in force only as long as its miniature is ahead of recency's: for each,
//! the uses are counted in which it and recency differ, as a sum of +1 and -1 and as their number, both decayed over [`Trust::horizon`]
//! turnovers. It may be chosen when the sum exceeds [`Trust::lead`] of what chance alone would give, the square root of that number,
//! and is left for recency when the sum falls below 0, or when recency was clearly ahead lately: then all is counted anew. Between two settings that are ahead of recency, the present one gives way by the
//! same rule.

use aether_core::{Result, Row};

use crate::books::Input;

use super::ghost::{Ghost, View};
use super::sample::{Sample, is_sampled};
use super::wrong;

/// Half-lives tried, in capacities of uses: each eight times the one before, up to a long memory.
const HALF_LIVES: [f64; 3] = [4.0, 32.0, 256.0];

/// A setting: the number of its half-life, and the share of rows that stay by recency alone.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Setting {
    half_life: usize,
    recent_share: f64,
}

const fn setting(half_life: usize, recent_share: f64) -> Setting {
    Setting {
        half_life,
        recent_share,
    }
}

/// Number of settings tried.
pub(super) const TRIED: usize = 8;
/// The settings tried, recency first: its half-life matters for what is remembered meanwhile, and what was forgotten cannot be recalled.
/// The shortest half-life orders rows most like recency, so that with it a larger share of that is worth a trial.
const SETTINGS: [Setting; TRIED] = [
    setting(1, 1.0),
    setting(0, 0.0),
    setting(0, 0.3),
    setting(0, 0.6),
    setting(1, 0.0),
    setting(1, 0.3),
    setting(2, 0.0),
    setting(2, 0.3),
];
/// Recency.
const RECENCY: usize = 0;

/// Slots of the sample: two for each hot row, between these bounds; a power of two. How soon a better setting is told from chance depends on
/// how many uses are sampled: up to [`SLOTS_LEAST`] over [`SLOTS_A_ROW`] rows are tried as they are. More for a small tier would tell sooner, and
/// take its room. Slots are made for the first only, and double as rows are met.
const SLOTS_LEAST: u64 = 1024;
const SLOTS_FIRST: usize = 64;
const SLOTS_MOST: u64 = 16_384;
const SLOTS_A_HOT_ROW: u64 = 2;
/// Slots for one row that a miniature holds: those held and those that left lately.
const SLOTS_A_ROW: f64 = 4.0;
/// Slots looked at for one that no ghost holds.
const LOOK_AT: usize = 8;
/// Turnovers of a miniature over which a setting in force may not lose to recency, and what counts as losing, in standard errors: what was
/// ahead for long has gathered a lead that would last long after the rows in use have changed.
const LATELY: f64 = 5.0;
const LATELY_ERRORS: f64 = 3.0;
/// Change of capacity that is followed.
const TOLERANCE: f64 = 1.125;
/// Virtual time after which worths are made small again, so that an `f32` holds them to 1/4,096 of a doubling.
const REBASE: f64 = 1024.0;

/// What is counted of one half-life: virtual time, and each slot's worth under it.
#[derive(Debug, Default)]
struct Counts {
    now: f64,
    worth: Vec<f32>,
}

impl Counts {
    /// Adds a use of a slot's row, and changes the part of its worth that is not its score.
    fn used(&mut self, slot: u16, before: f32, value: f32) {
        let worth = &mut self.worth[usize::from(slot)];
        let count = (f64::from(*worth - before) - self.now).exp2();
        *worth = (self.now + (1.0 + count).log2()) as f32 + value;
    }

    fn advance(&mut self, half_lives: f64) {
        self.now += half_lives;
        if self.now > REBASE {
            let off = self.now as f32;
            self.now = 0.0;
            self.worth.iter_mut().for_each(|worth| *worth -= off);
        }
    }
}

/// What it takes to believe the trials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trust {
    /// Turnovers of a miniature over which an advantage is forgotten.
    pub(super) horizon: f64,
    /// Lead needed to change, in standard errors.
    pub(super) lead: f64,
}

impl Trust {
    pub(super) const DEFAULT: Self = Self {
        horizon: 80.0,
        lead: 2.0,
    };
}

/// By how much one setting is ahead of another: hits more, and the variance that chance alone would give that, both decayed.
#[derive(Clone, Copy, Debug, Default)]
struct Lead {
    sum: f64,
    differ: f64,
}

impl Lead {
    fn note(&mut self, keep: f64, hit: bool, other: bool, weight: f64) {
        self.sum *= keep;
        self.differ *= keep;
        if hit != other {
            self.sum += if hit { weight } else { -weight };
            self.differ += weight * weight;
        }
    }

    /// Whether chance alone would hardly give so much.
    fn is_clear(self, errors: f64) -> bool {
        self.sum > errors * self.differ.sqrt() + 1.0
    }
}

/// The trials and their outcome.
#[derive(Debug)]
pub(super) struct Steer {
    trust: Trust,
    current: usize,
    sample: Sample,
    counts: [Counts; HALF_LIVES.len()],
    ghosts: [Ghost; TRIED],
    /// Lead of each over recency, and over the current one.
    over_recency: [Lead; TRIED],
    over_current: [Lead; TRIED],
    /// Lead of recency over the current one, over [`LATELY`] turnovers.
    lately: Lead,
    /// Sampled uses since the current one was chosen.
    since: f64,
    /// Sampled rows that entered the hot tier, over those that recency would have let in; what was saved is forgotten as leads are.
    owed: f64,
    /// Changes made.
    pub(super) changes: u64,
    /// Uses since the last sampled one.
    waited: u64,
    /// A row is sampled when so many high bits of its hash are 0.
    shift: u32,
    /// Slots that the sample may have.
    slots: usize,
    /// Capacity of the hot tier in rows and bytes; 0 while it is not known.
    capacity_rows: f64,
    capacity_bytes: f64,
}

impl Steer {
    pub(super) fn new(trust: Trust) -> Self {
        Self {
            trust,
            current: RECENCY,
            sample: Sample::new(),
            counts: Default::default(),
            ghosts: std::array::from_fn(|_| Ghost::new()),
            over_recency: [Lead::default(); TRIED],
            over_current: [Lead::default(); TRIED],
            lately: Lead::default(),
            since: 0.0,
            owed: 0.0,
            changes: 0,
            waited: 0,
            shift: 0,
            slots: slots_for(0),
            capacity_rows: 0.0,
            capacity_bytes: 0.0,
        }
    }

    pub(super) fn trust(&self) -> Trust {
        self.trust
    }

    /// The present half-life, in capacities of uses.
    pub(super) fn half_life(&self) -> f64 {
        HALF_LIVES[SETTINGS[self.current].half_life]
    }

    /// The present share of rows that stay by recency alone.
    pub(super) fn recent_share(&self) -> f64 {
        SETTINGS[self.current].recent_share
    }

    /// Whether recency is in force.
    pub(super) fn is_recency(&self) -> bool {
        self.current == RECENCY
    }

    /// Rows that the hot tier holds when it is full; 0 while that is not known.
    pub(super) fn capacity_rows(&self) -> f64 {
        self.capacity_rows
    }

    /// The hot tier holds `hot` rows now, and so many rows and bytes when it is full. Small changes are not followed.
    pub(super) fn fit(&mut self, hot: u64, rows: f64, bytes: f64) {
        let near = |old: f64, new: f64| new <= old * TOLERANCE && old <= new * TOLERANCE;
        let slots = slots_for(hot);
        // Twice as many rows get more slots at once; they are given back when a quarter would do.
        let wanted = if slots > self.slots || slots * 4 <= self.slots {
            slots
        } else {
            self.slots
        };
        if near(self.capacity_rows, rows)
            && near(self.capacity_bytes, bytes)
            && wanted == self.slots
        {
            return;
        }
        (self.capacity_rows, self.capacity_bytes) = (rows, bytes);
        if wanted < self.slots {
            self.release();
        }
        self.slots = wanted;
        let most = self.slots as f64 / SLOTS_A_ROW;
        let shift = (rows / most).log2().ceil().clamp(0.0, 40.0) as u32;
        if shift > self.shift {
            // The smaller sample is a part of the larger one.
            for slot in self.sample.outside(shift) {
                self.vacate(slot);
            }
        }
        self.shift = shift;
    }

    /// Gives all slots back. What was learned from them stays.
    fn release(&mut self) {
        self.sample = Sample::new();
        self.counts = Default::default();
        self.ghosts = std::array::from_fn(|_| Ghost::new());
    }

    /// Counts a use of a row; whether the row is in the sample, and [`Steer::used`] wants to hear of it.
    pub(super) fn samples(&mut self, row: Row) -> bool {
        self.waited += 1;
        self.capacity_rows >= 1.0 && is_sampled(row.0, self.shift)
    }

    /// A row entered the hot tier.
    pub(super) fn entered(&mut self, row: Row) {
        if self.capacity_rows >= 1.0 && is_sampled(row.0, self.shift) {
            self.owed += 1.0;
        }
    }

    /// Whether more rows entered than recency would have let in.
    pub(super) fn owes_moves(&self) -> bool {
        self.owed > 0.0
    }

    /// A use of a row of the sample; `bytes` and `value` are its RAM and the part of its worth that is not its score, and `weight` is how
    /// much a hit of it counts.
    pub(super) fn used(&mut self, row: Row, bytes: u32, value: f32, weight: f64) {
        let share = (-f64::from(self.shift)).exp2();
        let capacity = (self.capacity_bytes * share).max(1.0) as u64;
        if u64::from(bytes) > capacity {
            self.owed -= 1.0;
            return;
        }
        let slot = self.slot_of(row.0);
        let hits = self.simulate(slot, bytes, value, capacity);
        self.judge(&hits, weight, (self.capacity_rows * share).max(1.0));
    }

    /// What each ghost makes of a use of a slot's row: whether the row was there.
    fn simulate(&mut self, slot: u16, bytes: u32, value: f32, capacity: u64) -> [bool; TRIED] {
        let mut hits = [false; TRIED];
        for ((ghost, setting), hit) in self.ghosts.iter_mut().zip(SETTINGS).zip(&mut hits) {
            *hit = ghost.take(slot, view(&self.sample, &self.counts, setting));
        }
        let waited = std::mem::take(&mut self.waited) as f64;
        let before = self.sample.value[usize::from(slot)];
        for (counts, half_life) in self.counts.iter_mut().zip(HALF_LIVES) {
            counts.advance(waited / (half_life * self.capacity_rows));
            counts.used(slot, before, value);
        }
        self.sample.used(slot, bytes, value);
        for (ghost, setting) in self.ghosts.iter_mut().zip(SETTINGS) {
            let view = view(&self.sample, &self.counts, setting);
            ghost.put(slot, setting.recent_share, capacity, view);
        }
        hits
    }

    /// Counts who is ahead, and changes the setting where that is clear. `rows`: those that a miniature holds.
    fn judge(&mut self, hits: &[bool; TRIED], weight: f64, rows: f64) {
        let keep = 1.0 - 1.0 / (self.trust.horizon * rows);
        let (recency, current) = (hits[RECENCY], hits[self.current]);
        self.since += 1.0;
        self.owed = match self.owed < 0.0 {
            true => self.owed * keep,
            false => self.owed,
        };
        self.owed -= f64::from(u8::from(!recency));
        for (at, hit) in hits.iter().enumerate() {
            self.over_recency[at].note(keep, *hit, recency, weight);
            self.over_current[at].note(keep, *hit, current, weight);
        }
        if self.current != RECENCY {
            if self.over_recency[self.current].sum < 0.0 {
                return self.change(RECENCY);
            }
            let keep = 1.0 - 1.0 / (LATELY * rows);
            self.lately.note(keep, recency, current, weight);
            if self.lately.is_clear(LATELY_ERRORS) {
                return self.start_over();
            }
        }
        if self.since < 2.0 * rows {
            return;
        }
        let is_clear = |lead: Lead| lead.is_clear(self.trust.lead);
        let ahead = (0..TRIED)
            .filter(|at| is_clear(self.over_recency[*at]) && is_clear(self.over_current[*at]));
        let sum = |at: &usize| self.over_current[*at].sum;
        if let Some(best) = ahead.max_by(|a, b| sum(a).total_cmp(&sum(b))) {
            self.change(best);
        }
    }

    /// The rows that are used have changed, and what was learned of the former ones counts no more.
    fn start_over(&mut self) {
        self.change(RECENCY);
        self.over_recency = [Lead::default(); TRIED];
        self.over_current = [Lead::default(); TRIED];
    }

    /// Leads are over the current one: they move with it.
    fn change(&mut self, to: usize) {
        let lead = self.over_current[to];
        for other in &mut self.over_current {
            other.sum -= lead.sum;
        }
        self.over_current[self.current].differ = lead.differ;
        self.over_current[to] = Lead::default();
        self.lately = Lead::default();
        self.current = to;
        self.since = 0.0;
        self.changes += 1;
    }

    /// A row is gone for good.
    pub(super) fn gone(&mut self, row: Row) {
        if let Some(slot) = self.sample.find(row.0) {
            self.vacate(slot);
        }
    }

    /// Nothing stays of the row of a slot.
    fn vacate(&mut self, slot: u16) {
        for (ghost, setting) in self.ghosts.iter_mut().zip(SETTINGS) {
            ghost.take(slot, view(&self.sample, &self.counts, setting));
        }
        for counts in &mut self.counts {
            counts.worth[usize::from(slot)] = f32::NEG_INFINITY;
        }
        self.sample.vacate(slot);
    }

    /// The slot of a row; if it has none it is given the least recent one that no ghost holds.
    fn slot_of(&mut self, row: u64) -> u16 {
        if let Some(slot) = self.sample.find(row) {
            return slot;
        }
        let slot = if self.sample.len() < self.slots {
            self.push_slot()
        } else {
            let oldest = || self.sample.by_use().take(LOOK_AT);
            let unheld = oldest().find(|slot| !self.ghosts.iter().any(|ghost| ghost.holds(*slot)));
            unheld.or(oldest().next()).unwrap_or(0)
        };
        if !self.sample.is_vacant(slot) {
            self.vacate(slot);
        }
        self.sample.assign(slot, row);
        slot
    }

    /// Room doubles up to what the number of hot rows allows.
    fn push_slot(&mut self) -> u16 {
        if self.sample.len() == self.sample.capacity() {
            self.reserve((self.sample.len() * 2).clamp(SLOTS_FIRST, self.slots));
        }
        for counts in &mut self.counts {
            counts.worth.push(f32::NEG_INFINITY);
        }
        self.ghosts.iter_mut().for_each(Ghost::push_slot);
        self.sample.push_slot()
    }

    fn reserve(&mut self, slots: usize) {
        self.sample.reserve(slots);
        for counts in &mut self.counts {
            counts.worth.reserve_exact(slots - counts.worth.len());
        }
        self.ghosts
            .iter_mut()
            .for_each(|ghost| ghost.reserve(slots));
    }

    /// RAM beyond the struct.
    pub(super) fn bytes(&self) -> u64 {
        let counts = self
            .counts
            .iter()
            .map(|counts| counts.worth.capacity() * size_of::<f32>());
        let ghosts = self.ghosts.iter().map(Ghost::bytes);
        self.sample.bytes_held() + counts.sum::<usize>() as u64 + ghosts.sum::<u64>()
    }

    /// Upper bound of [`Steer::bytes`] at any number of hot rows up to `hot`.
    pub(super) fn bytes_bound(&self, hot: u64) -> u64 {
        let a_slot = Sample::BYTES_A_SLOT + 4 * HALF_LIVES.len() as u64 + 4 * TRIED as u64;
        (slots_for(hot).max(self.slots) as u64 * a_slot + 64).max(self.bytes())
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.extend([TRIED as u8, self.current as u8]);
        let leads = self.over_recency.iter().chain(&self.over_current);
        for lead in leads.chain([&self.lately]) {
            out.extend_from_slice(&lead.sum.to_le_bytes());
            out.extend_from_slice(&lead.differ.to_le_bytes());
        }
        for value in [
            self.since,
            self.owed,
            self.capacity_rows,
            self.capacity_bytes,
        ] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        for value in [
            self.changes,
            self.waited,
            u64::from(self.shift),
            self.slots as u64,
        ] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        let numbers = self.sample.save(out);
        let saved: Vec<u16> = self
            .sample
            .by_use()
            .filter(|slot| !self.sample.is_vacant(*slot))
            .collect();
        for counts in &self.counts {
            out.extend_from_slice(&counts.now.to_le_bytes());
            for slot in &saved {
                out.extend_from_slice(&counts.worth[usize::from(*slot)].to_le_bytes());
            }
        }
        for ghost in &self.ghosts {
            ghost.save(&numbers, out);
        }
    }

    /// Takes up what `save` wrote.
    pub(super) fn load(&mut self, input: &mut Input<'_>) -> Result<()> {
        *self = Self::new(self.trust);
        let tried = usize::from(input.u8()?);
        if tried != TRIED {
            return Err(wrong(format!("{tried} settings were tried, not {TRIED}")));
        }
        self.current = usize::from(input.u8()?);
        if self.current >= TRIED {
            return Err(wrong(format!(
                "setting {} of {TRIED} is chosen",
                self.current
            )));
        }
        let leads = self.over_recency.iter_mut().chain(&mut self.over_current);
        for lead in leads.chain([&mut self.lately]) {
            (lead.sum, lead.differ) = (number(input)?, number(input)?);
        }
        self.since = number(input)?;
        self.owed = number(input)?;
        self.capacity_rows = number(input)?;
        self.capacity_bytes = number(input)?;
        self.changes = input.u64()?;
        self.waited = input.u64()?;
        self.shift = input.u64()?.min(40) as u32;
        let slots = input.u64()?;
        let count = input.count(16)?;
        if !slots.is_power_of_two()
            || !(SLOTS_LEAST..=SLOTS_MOST).contains(&slots)
            || count as u64 > slots
        {
            return Err(wrong(format!("{count} rows are sampled in {slots} slots")));
        }
        self.slots = slots as usize;
        for _ in 0..count {
            let slot = self.push_slot();
            self.sample.load_row(slot, input)?;
        }
        for counts in &mut self.counts {
            counts.now = number(input)?;
            if !(0.0..=REBASE).contains(&counts.now) {
                return Err(wrong(format!("the time of a trial is {}", counts.now)));
            }
            for worth in &mut counts.worth {
                *worth = f32::from_bits(input.u32()?);
                if worth.is_nan() || *worth > 1e9 {
                    return Err(wrong(format!("a row under trial is worth {worth}")));
                }
            }
        }
        for (ghost, setting) in self.ghosts.iter_mut().zip(SETTINGS) {
            ghost.load(view(&self.sample, &self.counts, setting), input)?;
        }
        Ok(())
    }
}

fn view<'a>(
    sample: &'a Sample,
    counts: &'a [Counts; HALF_LIVES.len()],
    setting: Setting,
) -> View<'a> {
    View {
        bytes: &sample.bytes,
        order: &sample.order,
        worth: &counts[setting.half_life].worth,
    }
}

fn number(input: &mut Input<'_>) -> Result<f64> {
    let value = f64::from_bits(input.u64()?);
    match value.is_finite() {
        true => Ok(value),
        false => Err(wrong(format!("a figure of the trials is {value}"))),
    }
}

/// Slots that the sample may have next to so many hot rows.
fn slots_for(hot: u64) -> usize {
    let slots = hot.saturating_mul(SLOTS_A_HOT_ROW);
    1 << slots.clamp(SLOTS_LEAST, SLOTS_MOST).ilog2()
}

#[cfg(test)]
mod tests;
