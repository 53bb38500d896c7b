//! The form in which books are saved: rows slot by slot, then the slots of each list.

use aether_core::{Error, Result, Row};

use super::index::NONE;
use super::{Books, Input, PINNED, Packed, Urgency, record};

pub(super) fn wrong(what: String) -> Error {
    Error::corrupt(format!(
        "policy books: {what}: expected what `save` wrote; delete the saved books to begin with empty ones"
    ))
}

impl<X: Packed> Books<X> {
    /// Appends rows, lists, places in the heap, and pins of rows that are not hot.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.gap.unwrap_or(NONE).to_le_bytes());
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        for slot in self.slots() {
            let pin = if self.pinned(slot) { PINNED } else { 0 };
            out.extend_from_slice(&self.row(slot).0.to_le_bytes());
            out.extend_from_slice(&(self.weight(slot) | pin).to_le_bytes());
            self.figures(slot).put(out);
        }
        for list in 0..self.count() {
            save_list(self.list(list), out);
        }
        for list in 0..self.second.count() {
            save_list(self.second(list), out);
        }
        if self.heap.is_some() {
            for slot in self.slots().filter(|slot| !self.pinned(*slot)) {
                let urgency = self.urgency(slot).unwrap_or_default();
                out.extend_from_slice(&urgency.value().to_bits().to_le_bytes());
                out.extend_from_slice(&urgency.used.to_le_bytes());
            }
        }
        out.extend_from_slice(&(self.pins.len() as u32).to_le_bytes());
        for pin in &self.pins {
            out.extend_from_slice(&pin.to_le_bytes());
        }
    }

    /// Takes up what `save` appended, into empty books of the same shape.
    pub(crate) fn load_saved(&mut self, input: &mut Input<'_>) -> Result<()> {
        let gap = Some(input.u32()?).filter(|gap| *gap != NONE);
        let rows = input.count(12 + X::BYTES)?;
        if gap.is_some_and(|gap| gap as usize > rows) {
            return Err(wrong(format!("there is a gap at {gap:?} of {rows} rows")));
        }
        for at in 0..=rows {
            if gap == Some(at as u32) {
                self.append_gap();
            }
            if at == rows {
                break;
            }
            let (row, weight) = (Row(input.u64()?), input.u32()?);
            let figures = X::take(input)?;
            if self.restore(row, weight, figures).is_none() {
                return Err(wrong(format!(
                    "row {row} stands twice or behind a pinned one"
                )));
            }
        }
        if self.gap.is_some() && self.records.len() != self.free as usize {
            return Err(wrong("there is a gap beside pinned rows".to_owned()));
        }
        self.load_lists(input)?;
        self.load_second(input)?;
        if self.heap.is_some() {
            let slots: Vec<u32> = self.slots().filter(|slot| !self.pinned(*slot)).collect();
            for slot in slots {
                let value = f64::from_bits(input.u64()?);
                self.rank(slot, Urgency::new(value, input.u32()?));
            }
        }
        for _ in 0..input.count(8)? {
            self.remember(Row(input.u64()?));
        }
        Ok(())
    }

    /// Slots that hold a row.
    fn slots(&self) -> impl Iterator<Item = u32> + use<X> {
        let gap = self.gap;
        (0..self.records.len() as u32).filter(move |slot| Some(*slot) != gap)
    }

    /// Whether a slot holds a row that is not pinned.
    fn is_free(&self, slot: u32) -> bool {
        slot < self.free && Some(slot) != self.gap
    }

    /// Adds a slot without a row, as the gap.
    fn append_gap(&mut self) {
        let gap = self.append_place(record(Row(0), 0, X::default()));
        self.free += u32::from(gap.is_some());
        self.gap = gap;
    }

    fn load_lists(&mut self, input: &mut Input<'_>) -> Result<()> {
        let mut linked = 0;
        for list in 0..self.count() {
            for _ in 0..input.count(4)? {
                let slot = input.u32()?;
                if !self.is_free(slot) || self.linked(slot) {
                    return Err(wrong(format!(
                        "slot {slot} is pinned, absent or listed twice"
                    )));
                }
                self.push_back(list, slot);
                linked += 1;
            }
        }
        if self.count() > 0 && linked != self.free() {
            let free = self.free();
            return Err(wrong(format!("{linked} of {free} rows are listed")));
        }
        Ok(())
    }

    fn load_second(&mut self, input: &mut Input<'_>) -> Result<()> {
        for list in 0..self.second.count() {
            for _ in 0..input.count(4)? {
                let slot = input.u32()?;
                if !self.is_free(slot) || self.second.linked(slot) {
                    return Err(wrong(format!(
                        "slot {slot} is pinned, absent or listed twice in the second order"
                    )));
                }
                self.push_second(list, slot);
            }
        }
        Ok(())
    }
}

fn save_list(slots: impl Iterator<Item = u32>, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count = 0_u32;
    for slot in slots {
        out.extend_from_slice(&slot.to_le_bytes());
        count += 1;
    }
    out[at..at + 4].copy_from_slice(&count.to_le_bytes());
}
