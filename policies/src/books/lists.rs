//! Doubly linked lists over the slots of the books: any number of lists, each slot in at most one of them.

use aether_core::role::PREFETCH_MAX;

use super::chunked::Chunked;

/// Circular lists. Each has a sentinel, so that a slot's neighbours are all there is to mend when it moves, and no
/// slot needs to say which list it is in. Link numbers: sentinels first, then slot `s` at `lists + s`.
#[derive(Debug)]
pub(crate) struct Lists {
    lists: u32,
    links: Chunked<[u32; 2]>,
}

const BACK: usize = 0;
const AHEAD: usize = 1;

impl Lists {
    pub(crate) fn new(lists: u32) -> Self {
        let mut links = Chunked::new();
        for sentinel in 0..lists {
            links.push([sentinel, sentinel]);
        }
        Self { lists, links }
    }

    /// Touches the links of these slots, [`PREFETCH_MAX`] at most, then those of their neighbours.
    pub(super) fn prefetch(&self, slots: &[u32]) {
        if self.lists == 0 {
            return;
        }
        let mut neighbours = [[0; 2]; PREFETCH_MAX];
        let neighbours = &mut neighbours[..slots.len().min(PREFETCH_MAX)];
        for (neighbour, slot) in neighbours.iter_mut().zip(slots) {
            *neighbour = self.links.get(self.lists + slot);
        }
        let touched = neighbours.iter().map(|[back, ahead]| {
            self.links.at(*back)[BACK].wrapping_add(self.links.at(*ahead)[BACK])
        });
        std::hint::black_box(touched.fold(0, u32::wrapping_add));
    }

    pub(crate) fn count(&self) -> u32 {
        self.lists
    }

    /// Makes room for one more slot, in no list. Without lists nothing is kept.
    pub(crate) fn push(&mut self) {
        if self.lists > 0 {
            let own = self.links.len() as u32;
            self.links.push([own, own]);
        }
    }

    /// Drops the last slot, which must be in no list.
    pub(crate) fn pop(&mut self) {
        if self.lists > 0 {
            self.links.pop();
        }
    }

    fn join(&mut self, a: u32, b: u32) {
        self.links.at_mut(a)[AHEAD] = b;
        self.links.at_mut(b)[BACK] = a;
    }

    /// Whether a slot is in a list.
    pub(crate) fn linked(&self, slot: u32) -> bool {
        self.lists > 0 && self.links.at(self.lists + slot)[AHEAD] != self.lists + slot
    }

    /// Takes a slot out of its list, if it is in one.
    pub(crate) fn unlink(&mut self, slot: u32) {
        if self.lists == 0 {
            return;
        }
        let own = self.lists + slot;
        let [back, ahead] = self.links.get(own);
        self.join(back, ahead);
        self.links.set(own, [own, own]);
    }

    /// Puts a slot at a list's end, out of any other list.
    pub(crate) fn push_back(&mut self, list: u32, slot: u32) {
        let own = self.lists + slot;
        let [back, ahead] = self.links.get(own);
        // A slot in no list is its own neighbour, and this changes nothing else.
        self.join(back, ahead);
        let last = self.links.at(list)[BACK];
        self.links.set(own, [last, list]);
        self.links.at_mut(last)[AHEAD] = own;
        self.links.at_mut(list)[BACK] = own;
    }

    /// Appends all of `from` to the end of `to`, in order. O(1).
    pub(crate) fn append(&mut self, from: u32, to: u32) {
        let [last, first] = self.links.get(from);
        if from == to || first == from {
            return;
        }
        let end = self.links.at(to)[BACK];
        self.join(end, first);
        self.join(last, to);
        self.links.set(from, [from, from]);
    }

    fn slot(&self, link: u32) -> Option<u32> {
        link.checked_sub(self.lists)
    }

    /// First slot of a list.
    pub(crate) fn first(&self, list: u32) -> Option<u32> {
        self.slot(self.links.at(list)[AHEAD])
    }

    /// First and last slot of a list.
    pub(crate) fn ends(&self, list: u32) -> Option<(u32, u32)> {
        let [back, ahead] = self.links.get(list);
        Some((self.slot(ahead)?, self.slot(back)?))
    }

    /// The slot after this one in its list.
    pub(crate) fn after(&self, slot: u32) -> Option<u32> {
        self.slot(self.links.at(self.lists + slot)[AHEAD])
    }

    /// Lets two slots trade places: each takes over the other's neighbours, as the books trade their records.
    pub(crate) fn swap(&mut self, a: u32, b: u32) {
        if self.lists == 0 || a == b {
            return;
        }
        let (a, b) = (self.lists + a, self.lists + b);
        let trade = |n: u32| match n {
            n if n == a => b,
            n if n == b => a,
            n => n,
        };
        let (of_a, of_b) = (self.links.get(a), self.links.get(b));
        self.links.set(b, of_a.map(trade));
        self.links.set(a, of_b.map(trade));
        for n in [a, b] {
            let [back, ahead] = self.links.get(n);
            self.join(back, n);
            self.join(n, ahead);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.lists);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.links.bytes()
    }

    pub(crate) fn bytes_bound(&self, slots: u64) -> u64 {
        let links = match self.lists {
            0 => 0,
            lists => slots.saturating_add(u64::from(lists)),
        };
        self.links.bytes_bound(links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lists: &Lists, list: u32) -> Vec<u32> {
        std::iter::successors(lists.first(list), |s| lists.after(*s)).collect()
    }

    #[test]
    fn slots_trade_places_in_every_constellation() {
        for (a, b) in [(0, 1), (1, 0), (0, 2), (0, 3), (3, 4), (2, 2), (4, 1)] {
            let mut lists = Lists::new(2);
            (0..6).for_each(|_| lists.push());
            (0..3).for_each(|s| lists.push_back(0, s));
            lists.push_back(1, 3);
            lists.swap(a, b);
            let name = |s: u32| match s {
                s if s == a => b,
                s if s == b => a,
                s => s,
            };
            assert_eq!(of(&lists, 0), [name(0), name(1), name(2)], "{a} {b}");
            assert_eq!(of(&lists, 1), [name(3)], "{a} {b}");
            for s in 0..6 {
                assert_eq!(lists.linked(name(s)), s < 4, "{a} {b}");
            }
        }
    }

    #[test]
    fn unlinking_twice_and_pushing_again_keep_order() {
        let mut lists = Lists::new(1);
        (0..3).for_each(|_| lists.push());
        (0..3).for_each(|s| lists.push_back(0, s));
        lists.push_back(0, 0);
        lists.unlink(1);
        lists.unlink(1);
        assert_eq!(of(&lists, 0), [2, 0]);
    }

    #[test]
    fn a_list_is_appended_whole() {
        let mut lists = Lists::new(2);
        (0..4).for_each(|_| lists.push());
        lists.append(1, 0);
        lists.push_back(1, 2);
        lists.push_back(1, 3);
        lists.append(1, 0);
        assert_eq!((of(&lists, 0), of(&lists, 1)), (vec![2, 3], vec![]));
        lists.push_back(1, 0);
        lists.append(1, 0);
        assert_eq!((of(&lists, 0), of(&lists, 1)), (vec![2, 3, 0], vec![]));
    }
}
