//! Putting rows into the graph and taking them out again.
//!
//! Insertion is algorithm 1 of Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
//! Hierarchical Navigable Small World graphs" (2018), with the neighbour selection of algorithm 4 (no extension of the
//! candidates, pruned ones are not kept). Removal is not in the paper: every row near the removed one that had a link to
//! it gets links to the removed row's neighbours instead, as far as the same selection rule wants them.

use std::sync::atomic::Ordering;

use aether_core::{Result, Row};

use crate::graph::{Graph, Point};
use crate::kernel::prefetch;
use crate::map::Heads;
use crate::node::{Link, NONE, link_of, slot_of};
use crate::scratch::{Candidate, Scratch};
use crate::sight::{Exact, Sight};

/// Links that a row gets at most in place of one to a removed row: more than one, since the removed row may have been the way to
/// several sides.
const REPAIR_LINKS: usize = 4;

/// Times that a row is linked anew when all rows found for it were removed before it could be linked to them.
pub(crate) const LINK_TRIES: usize = 64;

impl Graph {
    /// Adds a row that is not there; the caller holds its stripe and is not pinned.
    pub(crate) fn insert(&self, row: Row, vector: &[f32], scale: f32) -> Result<()> {
        let slot = self.place(row, vector, scale)?;
        self.connect(slot);
        self.map.insert(row, slot, self);
        Ok(())
    }

    /// Publishes a row that was placed and links it.
    pub(crate) fn connect(&self, slot: u32) {
        let _pin = self.pins.pin();
        let head = self.head(slot);
        let link = self.publish(slot);
        for _ in 0..LINK_TRIES {
            if self.become_first(slot, link) {
                return;
            }
            if Scratch::with(|scratch| self.link_all_levels(scratch, slot, link)) {
                break;
            }
        }
        {
            let _entry = self.lock_entry();
            head.linked.set();
            let entry = self.entry.get();
            let level = |link| self.head(slot_of(link)).level.load(Ordering::Relaxed);
            if entry == NONE || level(entry) < level(link) {
                self.entry.set(link);
            }
        }
        // All its neighbours may have gone before it could serve as an entry, while another row began the graph anew.
        if self.is_cut_off(link) {
            Scratch::with(|scratch| self.link_again(scratch, link));
        }
    }

    /// Makes the row the entry point of an empty graph; `false` if it is not empty.
    fn become_first(&self, slot: u32, link: Link) -> bool {
        if self.entry.get() != NONE {
            return false;
        }
        let _entry = self.lock_entry();
        if self.entry.get() != NONE {
            return false;
        }
        self.head(slot).linked.set();
        self.entry.set(link);
        true
    }

    /// Links a published row at each of its levels; `false` if no row has a link to it at level 0 afterwards.
    fn link_all_levels(&self, scratch: &mut Scratch, slot: u32, link: Link) -> bool {
        let entry = self.entry.get();
        if entry == NONE || entry == link {
            return entry == link;
        }
        self.link_from(scratch, entry, slot, link)
    }

    /// As [`Graph::link_all_levels`], looking for neighbours from the row `start`.
    pub(crate) fn link_from(
        &self,
        scratch: &mut Scratch,
        start: Link,
        slot: u32,
        link: Link,
    ) -> bool {
        let point = self.point(slot);
        match self.usable_codes() {
            None => self.link_by(scratch, Exact(point), start, slot, link),
            Some(codes) => self.with_sought(scratch, codes, point, |scratch, sight| {
                self.link_by(scratch, sight, start, slot, link)
            }),
        }
    }

    fn link_by<S: Sight>(
        &self,
        scratch: &mut Scratch,
        sight: S,
        start: Link,
        slot: u32,
        link: Link,
    ) -> bool {
        let level = self.head(slot).level.load(Ordering::Relaxed);
        let top = self.head(slot_of(start)).level.load(Ordering::Relaxed);
        self.descend_from(scratch, start, sight, level.min(top));
        let mut linked = false;
        for at in (0..=level.min(top)).rev() {
            self.search_level(scratch, sight, self.ef_construction, at, link);
            if S::ESTIMATES {
                let point = self.point(slot);
                self.measure_pool(scratch, point);
                let nearest = &scratch.pool[..scratch.pool.len().min(self.shape.m)];
                if self.is_too_coarse(sight, nearest) {
                    self.search_level(scratch, Exact(point), self.ef_construction, at, link);
                }
            }
            linked = self.link_level(scratch, link, at);
        }
        linked
    }

    /// Puts distances in place of the estimates in the pool.
    fn measure_pool(&self, scratch: &mut Scratch, from: Point) {
        for i in 0..scratch.pool.len() {
            if let Some(next) = scratch.pool.get(i + 1) {
                self.prefetch_vector(next.link);
            }
            let c = &mut scratch.pool[i];
            c.distance = self.distance(from, self.point(slot_of(c.link)), f32::INFINITY);
        }
        scratch.pool.sort_unstable();
    }

    /// Links a row and the rows chosen from the pool to each other; `false` if none of these has a link to it now.
    fn link_level(&self, scratch: &mut Scratch, link: Link, level: u32) -> bool {
        let mut chosen = std::mem::take(&mut scratch.chosen);
        chosen.clear();
        for c in &scratch.pool {
            if chosen.len() == self.shape.m {
                break;
            }
            if c.link != link && self.is_live(c.link) && self.is_diverse(c, &chosen) {
                chosen.push(*c);
            }
        }
        let mut linked = false;
        if self.write_chosen(scratch, &chosen, link, level) {
            for c in &chosen {
                linked |= self.add_link(scratch, c.link, link, c.distance, level, false);
            }
            // When every neighbour has nearer rows on that side, the nearest that can has to keep it all the same.
            let mut at = 0;
            while level == 0
                && !linked
                && let Some(c) = scratch.pool.get(at).copied()
            {
                at += 1;
                linked =
                    c.link != link && self.add_link(scratch, c.link, link, c.distance, level, true);
            }
        }
        scratch.chosen = chosen;
        linked
    }

    /// Writes a row's list: the chosen ones, then, as far as there is room, those it has already. It has some when other rows met it
    /// at a higher level and linked themselves to it, and they count on it. `false` if the row is gone.
    fn write_chosen(
        &self,
        scratch: &mut Scratch,
        chosen: &[Candidate],
        link: Link,
        level: u32,
    ) -> bool {
        let (slot, head) = (slot_of(link), self.head(slot_of(link)));
        let _own = head.lock.lock();
        let Some(own) = self.links(slot, level) else {
            return false;
        };
        if head.tag.get() != link {
            return false;
        }
        let list = &mut scratch.list;
        list.clear();
        list.extend_from_slice(chosen);
        for c in chosen {
            self.count_in(level, c.link);
        }
        for present in own.read().filter(|l| self.is_live(*l)) {
            let twice = chosen.iter().any(|c| c.link == present);
            if twice || list.len() == own.cells.len() {
                self.count_out(level, present);
            } else {
                list.push(Candidate {
                    distance: 0.0,
                    link: present,
                });
            }
        }
        own.write(list.iter().map(|c| c.link));
        true
    }

    /// Whether a candidate is nearer to the base than to every row chosen before it (algorithm 4).
    pub(crate) fn is_diverse(&self, c: &Candidate, chosen: &[Candidate]) -> bool {
        let point = self.point(slot_of(c.link));
        chosen
            .iter()
            .all(|r| self.distance(point, self.point(slot_of(r.link)), c.distance) >= c.distance)
    }

    /// Adds a link from a row to a new one, pruning the row's list when it is full: then the new link stays only if algorithm 4 wants
    /// it, or if it has to. `false` if the row is gone or has no link to the new one afterwards.
    fn add_link(
        &self,
        scratch: &mut Scratch,
        from: Link,
        to: Link,
        distance: f32,
        level: u32,
        has_to: bool,
    ) -> bool {
        let (slot, head) = (slot_of(from), self.head(slot_of(from)));
        let _head = head.lock.lock();
        let Some(links) = self.links(slot, level) else {
            return false;
        };
        if head.tag.get() != from {
            return false;
        }
        let count = links.len();
        let present = &links.cells[..count];
        if present.iter().any(|c| c.load(Ordering::Relaxed) == to) {
            return true;
        }
        let new = Candidate { distance, link: to };
        if links.append(to) {
            self.count_in(level, to);
            return true;
        }
        let point = self.point(slot);
        let list = &mut scratch.list;
        list.clear();
        list.push(new);
        for cell in present {
            let link = cell.load(Ordering::Relaxed);
            if self.is_live(link) {
                let distance = self.distance(point, self.point(slot_of(link)), f32::INFINITY);
                list.push(Candidate { distance, link });
            }
        }
        if list.len() > count {
            self.prune(list, to, links.cells.len(), level, has_to);
        }
        links.write(list.iter().map(|c| c.link));
        let stays = list.iter().any(|c| c.link == to);
        if stays {
            self.count_in(level, to);
        }
        stays || !self.keeps_last()
    }

    /// Removes a row; `false` if it was not there. The caller holds its stripe and is not pinned.
    pub(crate) fn remove(&self, row: Row) -> bool {
        let Some(slot) = self.map.remove(row, self) else {
            return false;
        };
        self.disconnect(slot);
        true
    }

    /// Takes a row out of the graph that is not in the map any more, mends the graph and gives the slot back.
    pub(crate) fn disconnect(&self, slot: u32) {
        {
            let _pin = self.pins.pin();
            let link = self.hide(slot);
            Scratch::with(|scratch| {
                for level in 0..=self.head(slot).level.load(Ordering::Relaxed) {
                    self.mend_around(scratch, slot, link, level);
                }
            });
        }
        self.give_back(slot);
    }

    /// Clears a row's tag, after finding another entry point if it was that.
    fn hide(&self, slot: u32) -> Link {
        let head = self.head(slot);
        let link = link_of(slot, head.generation.load(Ordering::Relaxed));
        let _entry = self.lock_entry();
        if self.entry.get() == link {
            self.entry.set(self.entry_instead_of(slot, link));
        }
        let _head = head.lock.lock();
        head.linked.clear();
        if let Some(codes) = &self.codes {
            codes.set_tag(slot, NONE);
        }
        head.tag.set(NONE);
        self.tops[head.level.load(Ordering::Relaxed) as usize].fetch_sub(1, Ordering::Relaxed);
        link
    }

    /// A row of the highest level there is: a neighbour in the highest list that has one, or else any; [`NONE`] if there is no other.
    pub(crate) fn entry_instead_of(&self, slot: u32, gone: Link) -> Link {
        let usable = |link: Link| {
            link != gone && self.is_live(link) && self.head(slot_of(link)).linked.get()
        };
        let level = self.head(slot).level.load(Ordering::Relaxed);
        for level in (1..=level).rev() {
            let Some(links) = self.links(slot, level) else {
                continue;
            };
            if let Some(link) = links.read().find(|l| usable(*l)) {
                return link;
            }
        }
        let level_of = |link: &Link| self.head(slot_of(*link)).level.load(Ordering::Relaxed);
        (0..self.used())
            .map(|s| self.head(s).tag.get())
            .filter(|tag| *tag != NONE && usable(*tag))
            .max_by_key(level_of)
            .unwrap_or(NONE)
    }

    /// Gives every row within two links of a removed one that had a link to it other links instead.
    fn mend_around(&self, scratch: &mut Scratch, slot: u32, gone: Link, level: u32) {
        let Some(links) = self.links(slot, level) else {
            return;
        };
        let mut own = std::mem::take(&mut scratch.links);
        own.clear();
        own.extend(links.read().filter(|l| self.is_live(*l)));
        for link in &own {
            self.count_out(level, *link);
        }
        let mut seen = std::mem::take(&mut scratch.more);
        seen.clear();
        for link in &own {
            if let Some(links) = self.links(slot_of(*link), level) {
                seen.extend(links.read());
            }
        }
        seen.extend_from_slice(&own);
        seen.sort_unstable();
        seen.dedup();
        for (i, link) in seen.iter().enumerate() {
            if let Some(ahead) = seen.get(i + 4) {
                let record = self.nodes.at(slot_of(*ahead));
                prefetch(record);
                prefetch(record.wrapping_add(64));
                prefetch(record.wrapping_add(128));
            }
            if *link != gone
                && self
                    .links(slot_of(*link), level)
                    .is_some_and(|l| l.read().any(|l| l == gone))
            {
                self.mend(scratch, *link, &own, level);
            }
        }
        if level == 0 {
            for link in own.iter().chain(&seen) {
                if self.is_cut_off(*link) {
                    self.link_again(scratch, *link);
                }
            }
        }
        scratch.links = own;
        scratch.more = seen;
    }

    /// Drops dead links from a row's list, fills it up from `instead`, and links those back as far as they have room.
    fn mend(&self, scratch: &mut Scratch, link: Link, instead: &[Link], level: u32) {
        let mut kept = std::mem::take(&mut scratch.chosen);
        let mut list = std::mem::take(&mut scratch.list);
        let point = self.point(slot_of(link));
        list.clear();
        list.extend(
            instead
                .iter()
                .filter(|l| **l != link)
                .map(|l| self.candidate(point, *l)),
        );
        list.sort_unstable();
        let had = self.replace_dead(&mut kept, &list, link, level);
        for c in &kept[had..] {
            self.add_link_if_room(c.link, link, level);
        }
        scratch.chosen = kept;
        scratch.list = list;
    }

    /// Rewrites a row's list as its live links followed by the nearest of `list`: first those that algorithm 4 wants, then, as far as
    /// the list was longer before, any. Without the second part lists get shorter with every removal, since what is left of
    /// a list that was never pruned is seldom spread as algorithm 4 wants it; recall falls with them.
    /// Leaves the new list in `kept` and returns how many of it were there before.
    fn replace_dead(
        &self,
        kept: &mut Vec<Candidate>,
        list: &[Candidate],
        link: Link,
        level: u32,
    ) -> usize {
        kept.clear();
        let head = self.head(slot_of(link));
        let _head = head.lock.lock();
        let Some(links) = self.links(slot_of(link), level) else {
            return 0;
        };
        if head.tag.get() != link {
            return 0;
        }
        kept.extend(
            links
                .read()
                .filter(|l| self.is_live(*l))
                .map(|link| Candidate {
                    distance: 0.0,
                    link,
                }),
        );
        let had = kept.len();
        let before = links.len();
        let most = links.cells.len().min(had + REPAIR_LINKS);
        for spread in [true, false] {
            let most = if spread { most } else { before };
            for c in list {
                if kept.len() >= most {
                    break;
                }
                if self.is_live(c.link)
                    && kept.iter().all(|k| k.link != c.link)
                    && (!spread || self.is_diverse(c, kept))
                {
                    kept.push(*c);
                }
            }
        }
        for c in &kept[had..] {
            self.count_in(level, c.link);
        }
        links.write(kept.iter().map(|c| c.link));
        had
    }

    /// Adds a link to a row's list if there is room.
    fn add_link_if_room(&self, from: Link, to: Link, level: u32) {
        let head = self.head(slot_of(from));
        let _head = head.lock.lock();
        if head.tag.get() == from
            && let Some(links) = self.links(slot_of(from), level)
            && links.read().all(|l| l != to)
            && links.append(to)
        {
            self.count_in(level, to);
        }
    }

    fn candidate(&self, from: Point, link: Link) -> Candidate {
        Candidate {
            distance: self.distance(from, self.point(slot_of(link)), f32::INFINITY),
            link,
        }
    }
}
