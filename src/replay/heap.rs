//! Ids with the greatest value on top, whose values may change in place.

const ABSENT: u32 = u32::MAX;

/// A binary heap of ids with a place for each. O(log n) a change; 16 bytes an id in it and 4 for each there may be.
///
/// Equal values keep the order that sifting gives them: up past smaller ones only, down below greater ones only, the left child first.
/// That is the order of `libpqueue`, on which the reference's Belady rests; with sizes it decides which of the keys that are never used
/// again leaves first.
#[derive(Debug)]
pub(super) struct Heap {
    /// The heap proper: value and id; the children of `i` are `2 i + 1` and `2 i + 2`.
    items: Vec<(u64, u32)>,
    places: Vec<u32>,
}

impl Heap {
    pub(super) fn new(ids: usize) -> Self {
        Self {
            items: Vec::new(),
            places: vec![ABSENT; ids],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.items.capacity() * size_of::<(u64, u32)>() + self.places.capacity() * 4) as u64
    }

    /// The id with the greatest value.
    pub(super) fn top(&self) -> Option<u32> {
        self.items.first().map(|(_, id)| *id)
    }

    /// Gives an id a value, and takes it in if it is not there.
    pub(super) fn set(&mut self, id: u32, value: u64) {
        let place = self.places[id as usize];
        if place == ABSENT {
            self.items.push((value, id));
            self.up(self.items.len() - 1);
            return;
        }
        let place = place as usize;
        let old = std::mem::replace(&mut self.items[place].0, value);
        if old < value {
            self.up(place);
        } else {
            self.down(place);
        }
    }

    /// Takes an id out.
    pub(super) fn remove(&mut self, id: u32) {
        let place = std::mem::replace(&mut self.places[id as usize], ABSENT);
        let Some(last) = (place != ABSENT).then(|| self.items.pop()).flatten() else {
            return;
        };
        let place = place as usize;
        if place == self.items.len() {
            return;
        }
        let old = std::mem::replace(&mut self.items[place], last);
        if old.0 < last.0 {
            self.up(place);
        } else {
            self.down(place);
        }
    }

    fn put(&mut self, place: usize, item: (u64, u32)) {
        self.items[place] = item;
        self.places[item.1 as usize] = place as u32;
    }

    fn up(&mut self, mut place: usize) {
        let item = self.items[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.items[parent].0 >= item.0 {
                break;
            }
            self.put(place, self.items[parent]);
            place = parent;
        }
        self.put(place, item);
    }

    fn down(&mut self, mut place: usize) {
        let item = self.items[place];
        loop {
            let mut child = place * 2 + 1;
            let Some(left) = self.items.get(child) else {
                break;
            };
            if self.items.get(child + 1).is_some_and(|r| left.0 < r.0) {
                child += 1;
            }
            if item.0 >= self.items[child].0 {
                break;
            }
            self.put(place, self.items[child]);
            place = child;
        }
        self.put(place, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_a_sorted_list_under_random_changes() {
        let mut rng = fastrand::Rng::with_seed(5);
        let (mut heap, mut model) = (Heap::new(50), std::collections::BTreeMap::new());
        for _ in 0..20_000 {
            let id = rng.u32(..50);
            if rng.u32(..3) == 0 {
                heap.remove(id);
                model.remove(&id);
            } else {
                let value = rng.u64(..40);
                heap.set(id, value);
                model.insert(id, value);
            }
            let greatest = model.values().max();
            assert_eq!(heap.len(), model.len());
            assert_eq!(heap.top().map(|id| model[&id]).as_ref(), greatest);
        }
    }
}
