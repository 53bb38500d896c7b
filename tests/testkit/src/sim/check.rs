//! What must hold after every step.

use std::collections::{BTreeMap, BTreeSet};

use aether_core::Row;
use aether_core::migrate::{Intent, IntentKind};

use super::steps::{Mode, State};
use super::world::{Home, Image, World};
use super::{Bug, Doing};

impl State {
    /// The promises of this state.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_image("on disk", &self.world.disk)?;
        if let Some(image) = &self.world.maybe {
            self.check_image("perhaps on disk", image)?;
        }
        if self.mode != Mode::Running {
            return Ok(());
        }
        self.check_sight()?;
        if self.swept && self.doing.iter().all(|d| *d == Doing::Done) {
            self.check_quiet()?;
        }
        Ok(())
    }

    /// Whatever image a power cut leaves, recovery can build the memory from it.
    fn check_image(&self, place: &str, image: &Image) -> Result<(), String> {
        for (segment, key) in &image.manifest {
            if !self.world.blobs.contains_key(key) {
                return Err(format!("{place}: the blob of segment {segment} is gone"));
            }
            if let Some(n) = image.intents.values().find(|n| n.blob == *key) {
                return Err(format!(
                    "{place}: segment {segment} is committed and intended by {n:?}"
                ));
            }
        }
        let mut rows: BTreeMap<Row, u8> = BTreeMap::new();
        for (point, row) in &image.points {
            let Some((owner, home)) = image.homes.get(row) else {
                return Err(format!(
                    "{place}: point {point} has row {row}, which has no home"
                ));
            };
            if owner != point {
                return Err(format!(
                    "{place}: {row} is of point {owner}, not of {point}"
                ));
            }
            if let Home::Segment(segment) = home {
                let key = image.manifest.get(segment);
                let held = key.and_then(|k| self.world.blobs.get(k));
                if !held.is_some_and(|rows| rows.contains(row)) {
                    return Err(format!("{place}: {row} is not in its segment {segment}"));
                }
                if image.dead.contains(&(*segment, *row)) {
                    return Err(format!(
                        "{place}: {row} lives and is dead in segment {segment}"
                    ));
                }
            }
            rows.insert(*row, *point);
        }
        match image.homes.keys().find(|row| !rows.contains_key(row)) {
            None => Ok(()),
            Some(row) => Err(format!(
                "{place}: {row} has a home, and no point leads to it"
            )),
        }
    }

    /// A search that began now sees every point exactly once, as it was acknowledged last.
    fn check_sight(&self) -> Result<(), String> {
        let world = &self.world;
        let found = world.found(world.ram.visible, &world.ram.view);
        let mut truth: BTreeSet<Row> = world.truth.values().copied().collect();
        if found == truth {
            return Ok(());
        }
        // What is in doubt may be seen as before or as after, once.
        for (point, after) in &world.doubt {
            let before = world.truth.get(point).copied();
            let seen: Vec<Row> = [before, *after]
                .into_iter()
                .flatten()
                .filter(|r| found.contains(r))
                .collect();
            truth.extend(&seen);
            if seen.len() > 1 {
                return Err(format!("point {point} is seen as {seen:?}"));
            }
            if let Some(before) = before.filter(|b| !found.contains(b)) {
                truth.remove(&before);
            }
        }
        if found == truth {
            return Ok(());
        }
        let (gaps, ghosts): (Vec<_>, Vec<_>) = (
            truth.difference(&found).collect(),
            found.difference(&truth).collect(),
        );
        Err(format!(
            "a search misses {gaps:?} and finds the ghosts {ghosts:?}"
        ))
    }

    /// Nothing goes on any more.
    fn check_quiet(&self) -> Result<(), String> {
        let World { ram, disk, .. } = &self.world;
        if ram.poisoned || !ram.deferred.is_empty() {
            return Ok(());
        }
        let listed: BTreeSet<Row> = ram.directory.keys().copied().collect();
        if listed != ram.hot {
            return Err(format!(
                "the index holds {:?}, the directory {listed:?}",
                ram.hot
            ));
        }
        if let Some((row, e)) = ram.directory.iter().find(|(_, e)| !e.settled()) {
            return Err(format!("{row} never left: {e:?}"));
        }
        let in_segment = |r: &&Row| matches!(disk.homes.get(r), Some((_, Home::Segment(_))));
        let resident: BTreeSet<Row> = listed.iter().filter(in_segment).copied().collect();
        if resident != disk.resident {
            return Err(format!(
                "resident are {resident:?}, noted are {:?}",
                disk.resident
            ));
        }
        if ram.writer.is_some() {
            return Err("the writer's lock was never given back".to_owned());
        }
        // Only a migration that was abandoned leaves its intent, to the next open.
        let started = |n: &&Intent| n.kind == IntentKind::Started && !self.abandoned;
        if let Some(n) = disk.intents.values().find(started) {
            return Err(format!("an intent was left: {n:?}"));
        }
        self.check_orphans()
    }

    fn check_orphans(&self) -> Result<(), String> {
        let world = &self.world;
        let named = |key: &aether_core::BlobKey| {
            world.disk.manifest.values().any(|b| b == key)
                || world.disk.intents.values().any(|n| n.blob == *key)
        };
        match world.blobs.keys().find(|key| !named(key)) {
            None => Ok(()),
            Some(key) => Err(format!("{key} is an orphan")),
        }
    }

    /// At an end, after the grace: one more open leaves nothing behind and finds everything.
    pub(super) fn check_end(&self) -> Result<(), String> {
        let mut last = self.clone();
        last.budget.crashes = 0;
        last.doing.fill(Doing::Done);
        let images: Vec<bool> = if last.world.maybe.is_some() {
            vec![false, true]
        } else {
            vec![false]
        };
        for happened in images {
            let mut state = last.clone();
            state.world.crash(happened);
            state.mode = Mode::Down;
            for _ in 0..1000 {
                let Some((_, next)) = state.successors().pop() else {
                    break;
                };
                state = next?;
                if state.mode == Mode::Running {
                    break;
                }
            }
            let at_end = |e: String| format!("after the last open: {e}");
            state.check().map_err(at_end)?;
            state.check_orphans().map_err(at_end)?;
            if let Some(n) = state.world.disk.intents.values().next() {
                return Err(at_end(format!("an intent dangles: {n:?}")));
            }
            if self.bug == Bug::None && state.mode != Mode::Running {
                return Err("the last open did not end".to_owned());
            }
        }
        Ok(())
    }
}
