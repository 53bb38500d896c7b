//! Keeping every row within reach: the lists of level 0 that lead to each are counted, the last is not pruned, and a row that a removal
//! leaves without one is linked anew. The paper's rule lets a row lose every link to it, and then no search finds it.

use std::sync::atomic::Ordering;

use aether_core::Metric;

use crate::graph::Graph;
use crate::link::LINK_TRIES;
use crate::map::Heads;
use crate::node::{Link, NONE, slot_of};
use crate::scratch::{Candidate, Scratch};

impl Graph {
    /// Leaves those of a list that algorithm 4 wants, and those that no other list leads to. `new` stays if it is wanted or has to, unless
    /// the list is full of others that stay.
    pub(crate) fn prune(
        &self,
        list: &mut Vec<Candidate>,
        new: Link,
        room: usize,
        level: u32,
        has_to: bool,
    ) {
        list.sort_unstable();
        let mut kept = 0;
        for i in 0..list.len() {
            if self.is_diverse(&list[i], &list[..kept]) {
                list.swap(kept, i);
                kept += 1;
            }
        }
        let wanted = kept;
        for i in wanted..list.len() {
            let link = list[i].link;
            let stays = if link == new {
                has_to
            } else if level == 0 && self.keeps_last() {
                !self.count_out_unless_last(link)
            } else {
                self.count_out(level, link);
                false
            };
            if stays {
                list.swap(kept, i);
                kept += 1;
            }
        }
        list.truncate(kept);
        if let Some(last) = list.get(room).map(|c| c.link) {
            // The new one is not counted yet.
            let goes = if last == new {
                true
            } else if level == 0 && self.keeps_last() {
                self.count_out_unless_last(last)
            } else {
                self.count_out(level, last);
                true
            };
            let out = if goes { last } else { new };
            list.retain(|c| c.link != out);
        }
    }

    /// Whether the last list that leads to a row stays. Not with inner products: there the few longest vectors are everybody's neighbours,
    /// and their lists would be full of links that lead nowhere else (recall@10 in 2 dimensions: 0.75 instead of 1). What is cut off
    /// there is short, and so seldom an answer.
    pub(crate) fn keeps_last(&self) -> bool {
        self.metric != Metric::InnerProduct
    }

    /// Counts a list of level 0 more that leads to `link`.
    pub(crate) fn count_in(&self, level: u32, link: Link) {
        if level == 0 {
            let incoming = &self.head(slot_of(link)).incoming;
            incoming.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a list of level 0 less that leads to `link`, which was alive a moment ago.
    pub(crate) fn count_out(&self, level: u32, link: Link) {
        if level == 0 {
            let incoming = &self.head(slot_of(link)).incoming;
            // A link that came to life again, see `Link`, was not counted.
            let less = |n: u32| n.checked_sub(1);
            let _ = incoming.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// Counts a list less that leads to `link`; `false`, and counts nothing, if there is no other.
    fn count_out_unless_last(&self, link: Link) -> bool {
        let incoming = &self.head(slot_of(link)).incoming;
        let less = |n: u32| (n > 1).then(|| n - 1);
        incoming
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }

    /// Whether no list leads to a row, or none leads away from it. The one row of an index is cut off from nothing.
    pub(crate) fn is_cut_off(&self, link: Link) -> bool {
        let slot = slot_of(link);
        self.is_live(link)
            && (self.keeps_last() && self.head(slot).incoming.load(Ordering::Relaxed) == 0
                || self
                    .links(slot, 0)
                    .is_none_or(|l| !l.read().any(|l| self.is_live(l))))
    }

    /// Links a row anew that was cut off: every row that could have taken the removed one's place was removed meanwhile, or had no room.
    pub(crate) fn link_again(&self, scratch: &mut Scratch, link: Link) {
        let slot = slot_of(link);
        for _ in 0..LINK_TRIES {
            let entry = self.entry.get();
            let start = if entry == link {
                self.entry_instead_of(slot, link)
            } else {
                entry
            };
            // Without another row there is nothing to link it to; one that comes will link itself to this one.
            if start == NONE || !self.is_live(link) || self.link_from(scratch, start, slot, link) {
                return;
            }
        }
    }
}
