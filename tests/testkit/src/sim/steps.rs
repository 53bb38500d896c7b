//! What can happen next in a state, and what comes of it.

use std::collections::BTreeSet;

use aether_core::migrate::{
    Effect, Event, Failure, Intent, IntentKind, Kind, Machine, Outcome, Repair, plan_recovery,
};
use aether_core::{BlobKey, Row, SegmentId};

use super::world::{Deferred, Entry, Home, Image, Moment, Scenario, World, blob};
use super::{Actor, Budget, Bug, Doing, Killed, Move, Write};

/// What the process is doing as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    Running,
    /// Without power.
    Down,
    /// Opening: what is left to put right, and the intents to be deleted at the end.
    Recovering(Vec<Repair>, Vec<u64>),
}

/// One state of the whole simulation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) world: World,
    pub(super) doing: Vec<Doing>,
    pub(super) mode: Mode,
    pub(super) budget: Budget,
    pub(super) bug: Bug,
    /// Whether an open has ended and nothing has landed since: there must be no orphan now.
    pub(super) swept: bool,
    /// Whether a migration was abandoned: it leaves its intent to the next open.
    pub(super) abandoned: bool,
}

/// How a commit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    Nothing,
    UnknownDone,
    UnknownLost,
    Final,
    CrashBefore,
    CrashAfter,
}

impl Fate {
    /// Whether the commit may be found on disk one day.
    fn may_happen(self) -> bool {
        !matches!(self, Self::Nothing | Self::Final | Self::CrashBefore)
    }

    /// The event for the machine; `None` when there is no machine any more.
    fn event(self) -> Option<Event> {
        Some(match self {
            Self::Done => Event::Done,
            Self::Nothing => Event::Failed(Failure::Nothing),
            Self::UnknownDone | Self::UnknownLost => Event::Failed(Failure::Unknown),
            Self::Final => Event::Failed(Failure::Final),
            Self::CrashBefore | Self::CrashAfter => return None,
        })
    }
}

type Steps = Vec<(String, Result<State, String>)>;

impl State {
    pub(super) fn new(scenario: &Scenario, budget: Budget, bug: Bug) -> Self {
        Self {
            world: World::new(scenario),
            doing: scenario.actors.iter().cloned().map(Doing::Waits).collect(),
            mode: Mode::Running,
            budget,
            bug,
            swept: true,
            abandoned: false,
        }
    }

    /// Everything that can happen next, in words and done.
    pub(super) fn successors(&self) -> Steps {
        let mut steps = Steps::new();
        match &self.mode {
            Mode::Running => {
                for i in 0..self.doing.len() {
                    self.act(i, &mut steps);
                }
            }
            Mode::Down => steps.push(("open".to_owned(), Ok(self.begin_recovery()))),
            Mode::Recovering(..) => self.recover(&mut steps),
        }
        for key in self.world.flying.keys() {
            let mut next = self.clone();
            if let Some(rows) = next.world.flying.remove(key) {
                next.world.blobs.insert(key.clone(), rows);
            }
            next.swept = false;
            steps.push((format!("{key} lands late"), Ok(next)));
            let mut next = self.clone();
            next.world.flying.remove(key);
            steps.push((format!("{key} is lost on the way"), Ok(next)));
        }
        steps
    }

    /// How a commit may go now.
    fn fates(&self) -> Vec<Fate> {
        let mut fates = Vec::new();
        if self.world.ram.poisoned {
            fates.push(Fate::Final);
        } else {
            fates.push(Fate::Done);
            if self.budget.faults > 0 {
                fates.extend([
                    Fate::Nothing,
                    Fate::UnknownDone,
                    Fate::UnknownLost,
                    Fate::Final,
                ]);
            }
        }
        if self.budget.crashes > 0 {
            fates.push(Fate::CrashBefore);
            if !self.world.ram.poisoned {
                fates.push(Fate::CrashAfter);
            }
        }
        fates
    }

    /// Commits an image as a fate has it. On a power cut the whole process is gone.
    fn commit(&mut self, fate: Fate, image: Image) {
        if !matches!(fate, Fate::Done | Fate::CrashBefore | Fate::CrashAfter)
            && !self.world.ram.poisoned
        {
            self.budget.faults -= 1;
        }
        match fate {
            Fate::Done | Fate::CrashAfter => self.world.disk = image,
            Fate::UnknownDone => {
                // What readers see already, and what a power cut may take away or leave.
                self.world.maybe = Some(image);
                self.world.ram.poisoned = true;
            }
            Fate::UnknownLost | Fate::Final => self.world.ram.poisoned = true,
            Fate::Nothing | Fate::CrashBefore => {}
        }
        if matches!(fate, Fate::CrashBefore | Fate::CrashAfter) {
            self.cut();
        }
    }

    /// The power is cut now. An unknown commit has happened in one successor and not in the other; see [`State::both`].
    fn cut(&mut self) {
        self.budget.crashes -= 1;
        self.mode = Mode::Down;
        self.doing.fill(Doing::Done);
    }

    /// A state that lost its power, for both outcomes of a commit in doubt.
    fn both(self, label: String, steps: &mut Steps) {
        if self.mode != Mode::Down {
            steps.push((label, Ok(self)));
            return;
        }
        for happened in [false, true] {
            if happened && self.world.maybe.is_none() {
                continue;
            }
            let mut next = self.clone();
            next.world.crash(happened);
            steps.push((label.clone(), Ok(next)));
        }
    }

    fn readers(&self) -> bool {
        self.doing.iter().any(|d| matches!(d, Doing::Searches(_)))
    }

    fn free(&self, i: usize) -> bool {
        self.world.ram.writer.is_none_or(|holder| holder == i)
    }

    fn act(&self, i: usize, steps: &mut Steps) {
        match &self.doing[i] {
            Doing::Done => {}
            Doing::Waits(Actor::Sweep) => self.sweep(i, steps),
            Doing::Sweeps(number) => self.sweep_on(i, *number, steps),
            Doing::Waits(actor) => {
                let mut next = self.clone();
                let label = format!("{i}: {actor:?} begins");
                let begun = next.begin(i, actor);
                steps.push((label, begun.map(|()| next)));
            }
            Doing::Moves(moving) => self.move_on(i, moving, steps),
            Doing::Writes(write) => self.write_on(i, write, steps),
            Doing::Searches(moment) => {
                let mut next = self.clone();
                let blobs = &self.world.blobs;
                if let Some(gone) = moment.view.keys().find(|s| !blobs.contains_key(&blob(**s))) {
                    let broken = format!("a search reads {gone}, whose blob is gone");
                    steps.push((format!("{i}: the search answers"), Err(broken)));
                    return;
                }
                let found = next.world.found(moment.high, &moment.view);
                let expected = moment.truth.values().copied().collect();
                let answer = if found == expected {
                    next.doing[i] = Doing::Done;
                    if !next.readers() {
                        for work in std::mem::take(&mut next.world.ram.deferred) {
                            next.world.reap(work);
                        }
                    }
                    Ok(next)
                } else {
                    Err(format!(
                        "a search that began when {:?} were alive found {found:?}",
                        moment.truth
                    ))
                };
                steps.push((format!("{i}: the search answers"), answer));
            }
        }
    }

    fn begin(&mut self, i: usize, actor: &Actor) -> Result<(), String> {
        let world = &mut self.world;
        let rows = |world: &World, points: &[u8]| -> Vec<Row> {
            let row = |p: &u8| world.truth.get(p).copied();
            points.iter().filter_map(row).collect()
        };
        let mut target = || {
            let segment = SegmentId(world.number());
            (segment, blob(segment), world.number())
        };
        let (mut machine, target, rows, point) = match actor {
            Actor::Demote(points) => {
                let t = target();
                let machine = Machine::demote(t.0, t.1.clone());
                (machine, Some(t), rows(world, points), None)
            }
            Actor::Write(point) => {
                let t = target();
                let machine = Machine::write(t.0, t.1.clone());
                (machine, Some(t), Vec::new(), Some(*point))
            }
            Actor::Compact | Actor::CompactSome(_) => {
                let chosen = match actor {
                    Actor::CompactSome(points) => Some(rows(world, points)),
                    _ => None,
                };
                return self.begin_compaction(i, chosen);
            }
            Actor::Sweep => return Err("a sweep begins with its first effect".to_owned()),
            Actor::Release(points) => (Machine::release(), None, rows(world, points), None),
            Actor::Promote(points) => (Machine::promote(), None, rows(world, points), None),
            Actor::Upsert(point) | Actor::Delete(point) => {
                self.doing[i] = Doing::Writes(Write {
                    point: *point,
                    delete: matches!(actor, Actor::Delete(_)),
                    committed: None,
                });
                return Ok(());
            }
            Actor::Search => {
                self.doing[i] = Doing::Searches(Moment {
                    high: world.ram.visible,
                    view: world.ram.view.clone(),
                    truth: world.truth.clone(),
                });
                return Ok(());
            }
        };
        let effect = machine.step(Event::Begin).map_err(|e| e.to_string())?;
        self.doing[i] = Doing::Moves(Move {
            machine,
            effect,
            rows,
            packed: Vec::new(),
            moved: Vec::new(),
            replaced: None,
            target,
            places: Vec::new(),
            ending: Vec::new(),
            point,
        });
        Ok(())
    }

    /// A compaction of all that searches see, or of some rows of it.
    fn begin_compaction(&mut self, i: usize, chosen: Option<Vec<Row>>) -> Result<(), String> {
        let world = &mut self.world;
        let (mut places, mut ending) = (Vec::new(), Vec::new());
        for (segment, gone) in &world.ram.view {
            let here = |r: &&Row| {
                let home = world.disk.homes.get(r).map(|h| h.1);
                home == Some(Home::Segment(*segment)) && !gone.contains(r)
            };
            let held = world.rows_of.get(segment).into_iter().flatten();
            let live: Vec<Row> = held.filter(here).copied().collect();
            let taken = |r: &&Row| chosen.as_ref().is_none_or(|c| c.contains(r));
            let taken: Vec<Row> = live.iter().filter(taken).copied().collect();
            if taken.len() == live.len() {
                ending.push(*segment);
            }
            places.extend(taken.into_iter().map(|r| (r, *segment)));
        }
        if places.is_empty() && ending.is_empty() {
            self.doing[i] = Doing::Done;
            return Ok(());
        }
        let target = (!places.is_empty()).then(|| {
            let segment = SegmentId(world.number());
            (segment, blob(segment), world.number())
        });
        let mut machine = Machine::compact(target.clone().map(|t| (t.0, t.1)));
        let effect = machine.step(Event::Begin).map_err(|e| e.to_string())?;
        self.doing[i] = Doing::Moves(Move {
            machine,
            effect,
            rows: Vec::new(),
            packed: places.iter().map(|p| p.0).collect(),
            moved: Vec::new(),
            replaced: None,
            target,
            places,
            ending,
            point: None,
        });
        Ok(())
    }

    /// One blob whose note is durable, that nobody reads and that cannot land any more, goes.
    fn sweep(&self, i: usize, steps: &mut Steps) {
        let mut idle = self.clone();
        idle.doing[i] = Doing::Done;
        steps.push((format!("{i}: nothing is swept"), Ok(idle)));
        let world = &self.world;
        let due = |n: &&Intent| {
            let held = world.ram.held.contains(&n.blob) && self.bug != Bug::SweepsUnderReaders;
            n.kind == IntentKind::Garbage && !held && !world.flying.contains_key(&n.blob)
        };
        if world.ram.poisoned {
            return;
        }
        for note in world.disk.intents.values().filter(due) {
            let label = format!("{i}: {} is swept", note.blob);
            let mut next = self.clone();
            next.world.blobs.remove(&note.blob);
            next.doing[i] = Doing::Sweeps(note.number);
            if self.budget.crashes > 0 {
                let mut down = next.clone();
                down.cut();
                down.both(format!("{label}: power cut after"), steps);
            }
            steps.push((label, Ok(next)));
        }
    }

    fn sweep_on(&self, i: usize, number: u64, steps: &mut Steps) {
        if !self.free(i) {
            return;
        }
        for fate in self.fates() {
            let mut next = self.clone();
            let mut image = next.world.disk.clone();
            image.intents.remove(&number);
            next.commit(fate, image);
            next.doing[i] = Doing::Done;
            next.both(format!("{i}: note {number} goes: {fate:?}"), steps);
        }
    }

    /// One effect of a migration, with all that can come of it.
    fn move_on(&self, i: usize, moving: &Move, steps: &mut Steps) {
        let effect = &moving.effect;
        match effect {
            Effect::CommitIntent(..)
            | Effect::CommitMove
            | Effect::CommitResidency
            | Effect::CommitGarbage(..) => {
                if !self.free(i) {
                    return;
                }
                for fate in self.fates() {
                    let mut next = self.clone();
                    let mut mine = moving.clone();
                    let image = next.image_after(i, &mut mine);
                    let label = format!("{i}: {effect:?}: {fate:?}");
                    let Some(image) = image else {
                        // Nothing is left to move; the driver does not begin.
                        next.advance(i, mine, Event::Failed(Failure::Nothing), label, steps);
                        return;
                    };
                    let putting = matches!(effect, Effect::CommitMove) && mine.point.is_some();
                    if putting && fate.may_happen() {
                        let row = mine.packed.first().copied();
                        next.world.doubt.extend(mine.point.map(|p| (p, row)));
                    }
                    next.commit(fate, image);
                    let unsure = matches!(fate, Fate::UnknownDone | Fate::UnknownLost);
                    if unsure
                        && self.bug == Bug::DeletesAfterUnknownCommit
                        && matches!(effect, Effect::CommitMove)
                        && let Some((_, key, _)) = &mine.target
                    {
                        next.world.blobs.remove(key);
                    }
                    match fate.event() {
                        Some(event) => next.advance(i, mine, event, label, steps),
                        None => next.both(label, steps),
                    }
                }
            }
            Effect::PutBlob(key) => self.put(i, moving, key, steps),
            Effect::LookBlob(key) => {
                let there = self.world.blobs.contains_key(key);
                for said in [true, false] {
                    // A store may not answer; it never says that there is what is not there.
                    if said && !there {
                        continue;
                    }
                    let event = if said { Event::Present } else { Event::Absent };
                    let label = format!("{i}: {effect:?}: {event:?}");
                    self.clone().advance(i, moving.clone(), event, label, steps);
                }
            }
            Effect::InsertHot => {
                if !self.free(i) {
                    return;
                }
                for failed in [false, true] {
                    if failed && self.budget.faults == 0 {
                        continue;
                    }
                    let (mut next, mut mine) = (self.clone(), moving.clone());
                    next.world.ram.writer = Some(i);
                    next.insert_hot(&mut mine, failed);
                    let event = if failed {
                        next.budget.faults -= 1;
                        Event::Failed(Failure::Nothing)
                    } else {
                        Event::Done
                    };
                    let label = format!("{i}: {effect:?}: {event:?}");
                    next.advance(i, mine, event, label, steps);
                }
            }
            Effect::IndexCold
            | Effect::RetireInputs
            | Effect::DropHot
            | Effect::ShowHot
            | Effect::UndoHot => {
                let (mut next, mine) = (self.clone(), moving.clone());
                next.in_ram(i, &mine);
                next.advance(i, mine, Event::Done, format!("{i}: {effect:?}"), steps);
            }
            Effect::Finish(outcome) => {
                let mut next = self.clone();
                next.doing[i] = Doing::Done;
                next.abandoned |= *outcome == Outcome::Abandoned;
                if next.world.ram.writer == Some(i) {
                    next.world.ram.writer = None;
                }
                steps.push((format!("{i}: ended, {outcome:?}"), Ok(next)));
            }
        }
    }

    /// Tells the machine and puts the next effect in its place.
    fn advance(mut self, i: usize, mut mine: Move, event: Event, label: String, steps: &mut Steps) {
        let failed = matches!(event, Event::Failed(_));
        let ends_lock = match mine.effect {
            Effect::CommitMove => failed && mine.point.is_none(),
            Effect::IndexCold | Effect::ShowHot | Effect::UndoHot => mine.point.is_none(),
            _ => false,
        };
        if ends_lock && self.world.ram.writer == Some(i) {
            self.world.ram.writer = None;
        }
        match mine.machine.step(event) {
            Ok(effect) => {
                if let Effect::Finish(Outcome::Completed) = effect
                    && let Some(point) = mine.point
                {
                    self.publish(point, mine.packed.first().copied(), mine.replaced);
                }
                mine.effect = effect;
                self.doing[i] = Doing::Moves(mine);
                steps.push((label, Ok(self)));
            }
            Err(error) => steps.push((label, Err(error.to_string()))),
        }
    }

    /// What the metadata store holds once an effect is committed, with the RAM work that goes before it. `None` when there is
    /// nothing to do.
    fn image_after(&mut self, i: usize, mine: &mut Move) -> Option<Image> {
        let bug = self.bug;
        let world = &mut self.world;
        let mut image = world.disk.clone();
        let settled = |world: &World, row: &Row| {
            let entry = world.ram.directory.get(row);
            entry.is_some_and(|e| e.settled())
        };
        match (&mine.effect, mine.target.clone()) {
            (Effect::CommitIntent(segment, key), Some((_, _, number))) => {
                if mine.machine.kind() == Kind::Compact {
                    // Its rows were chosen when it began.
                } else if mine.point.is_some() {
                    // A cold write holds the lock from here to its end.
                    world.ram.writer = Some(i);
                    mine.packed = vec![Row(world.number())];
                } else {
                    let fresh = |r: &Row| matches!(image.homes.get(r), Some((_, Home::Meta)));
                    mine.packed = mine.rows.iter().copied().filter(fresh).collect();
                    if mine.packed.is_empty() {
                        return None;
                    }
                }
                let (kind, segment, blob) = (IntentKind::Started, *segment, key.clone());
                let intent = Intent {
                    number,
                    kind,
                    segment,
                    blob,
                };
                if bug != Bug::PutsWithoutIntent {
                    image.intents.insert(number, intent);
                }
            }
            (Effect::CommitGarbage(..), Some((_, _, number))) => {
                if let Some(intent) = image.intents.get_mut(&number) {
                    intent.kind = IntentKind::Garbage;
                }
            }
            (Effect::CommitMove, target) if mine.machine.kind() == Kind::Compact => {
                world.ram.writer = Some(i);
                if let Some((segment, key, number)) = &target {
                    image.manifest.insert(*segment, key.clone());
                    image.intents.remove(number);
                    let packed = mine.packed.iter().copied().collect();
                    world.rows_of.insert(*segment, packed);
                }
                for (row, from) in &mine.places {
                    let Some((segment, ..)) = &target else { break };
                    let home = image.homes.get(row).copied();
                    match home.filter(|h| h.1 == Home::Segment(*from)) {
                        Some((point, _)) => {
                            image.homes.insert(*row, (point, Home::Segment(*segment)));
                            image.dead.insert((*from, *row));
                            mine.moved.push(*row);
                        }
                        None if bug == Bug::CompactsTheDead => mine.moved.push(*row),
                        None => drop(image.dead.insert((*segment, *row))),
                    }
                }
                for segment in &mine.ending {
                    if let Some(blob) = image.manifest.remove(segment)
                        && bug != Bug::ForgetsNotes
                    {
                        world.ram.held.insert(blob.clone());
                        let number = world.number();
                        let (kind, segment) = (IntentKind::Garbage, *segment);
                        let note = Intent {
                            number,
                            kind,
                            segment,
                            blob,
                        };
                        image.intents.insert(number, note);
                    }
                    image.dead.retain(|(s, _)| s != segment);
                }
            }
            (Effect::CommitMove, Some((segment, key, number))) => {
                world.ram.writer = Some(i);
                image.manifest.insert(segment, key);
                if bug != Bug::LeavesIntent {
                    image.intents.remove(&number);
                }
                world
                    .rows_of
                    .insert(segment, mine.packed.iter().copied().collect());
                if let Some(point) = mine.point {
                    let old = image.points.get(&point).copied();
                    mine.replaced = kill(&mut image, old);
                    for row in &mine.packed {
                        image.points.insert(point, *row);
                        image.homes.insert(*row, (point, Home::Segment(segment)));
                    }
                    return Some(image);
                }
                for row in &mine.packed {
                    let point = image.homes.get(row).map(|h| h.0);
                    let stays = bug == Bug::ForgetsToLookAgain || settled(world, row);
                    match point.or_else(|| world.ram.directory.get(row).map(|e| e.point)) {
                        Some(point) if stays => {
                            image.homes.insert(*row, (point, Home::Segment(segment)));
                            mine.moved.push(*row);
                        }
                        _ => drop(image.dead.insert((segment, *row))),
                    }
                }
            }
            (Effect::CommitResidency, _) if !mine.moved.is_empty() => {
                // Under `ForgetsResidency` an empty list is committed.
                let noted = if bug == Bug::ForgetsResidency {
                    0
                } else {
                    mine.moved.len()
                };
                image.resident.extend(&mine.moved[..noted]);
            }
            (Effect::CommitResidency, _) if world.ram.writer != Some(i) => {
                let stays = |r: &Row| settled(world, r) && image.resident.contains(r);
                mine.moved = mine.rows.iter().copied().filter(stays).collect();
                for row in &mine.moved {
                    image.resident.remove(row);
                }
            }
            _ => {}
        }
        Some(image)
    }

    fn put(&self, i: usize, mine: &Move, key: &BlobKey, steps: &mut Steps) {
        let rows: BTreeSet<Row> = mine.packed.iter().copied().collect();
        if !self.world.disk.intents.values().any(|n| n.blob == *key) {
            let broken = format!("{key} is put without a durable intent that names it");
            steps.push((format!("{i}: PutBlob"), Err(broken)));
            return;
        }
        let mut go = |label: &str, lands: bool, flies: bool, event: Option<Event>| {
            let mut next = self.clone();
            if lands {
                next.world.blobs.insert(key.clone(), rows.clone());
            }
            if flies {
                next.world.flying.insert(key.clone(), rows.clone());
            }
            let label = format!("{i}: PutBlob({key}): {label}");
            match event {
                Some(event) => {
                    if matches!(event, Event::Failed(_)) {
                        next.budget.faults -= 1;
                    }
                    if event == Event::Done && self.bug == Bug::DropsBeforeCommit {
                        next.world.reap(Deferred::Demoted(mine.packed.clone()));
                    }
                    let unknown = event == Event::Failed(Failure::Unknown);
                    let event = if unknown && self.bug == Bug::TrustsUnknownPut {
                        Event::Done
                    } else {
                        event
                    };
                    next.advance(i, mine.clone(), event, label, steps);
                }
                None => {
                    next.cut();
                    next.both(label, steps);
                }
            }
        };
        go("done", true, false, Some(Event::Done));
        if self.budget.faults > 0 {
            let unknown = Event::Failed(Failure::Unknown);
            go("fails", false, false, Some(Event::Failed(Failure::Nothing)));
            go("reply lost", true, false, Some(unknown.clone()));
            go("request lost", false, false, Some(unknown.clone()));
            go("late", false, true, Some(unknown));
            go("refused", false, false, Some(Event::Failed(Failure::Final)));
        }
        if self.budget.crashes > 0 {
            go("power cut before", false, false, None);
            go("power cut after", true, false, None);
            go("power cut while it is on its way", false, true, None);
        }
    }

    fn insert_hot(&mut self, mine: &mut Move, fails: bool) {
        let world = &mut self.world;
        let cold = |r: &&Row| {
            let home = world.disk.homes.get(r).map(|h| h.1);
            matches!(home, Some(Home::Segment(_))) && !world.ram.directory.contains_key(r)
        };
        mine.moved = mine.rows.iter().filter(cold).copied().collect();
        // A failure comes after the first row.
        let inserted = if fails { 1 } else { mine.moved.len() };
        world.ram.hot.extend(mine.moved.iter().take(inserted));
    }

    fn in_ram(&mut self, i: usize, mine: &Move) {
        let readers = self.readers() && self.bug != Bug::DropsUnderReaders;
        let world = &mut self.world;
        match mine.effect {
            Effect::IndexCold if mine.machine.kind() == Kind::Compact => {
                for (row, from) in &mine.places {
                    let moved = mine.moved.contains(row);
                    if let Some((segment, ..)) = mine.target.as_ref().filter(|_| !moved) {
                        world.ram.dead.insert((*segment, *row));
                    } else if self.bug == Bug::LessensUnderReaders {
                        world.ram.dead.insert((*from, *row));
                    } else if let Some(gone) = world.ram.view.get_mut(from) {
                        gone.insert(*row);
                    }
                }
                if self.bug != Bug::ForgetsIndex
                    && let Some((segment, ..)) = mine.target
                {
                    world.ram.view.insert(segment, BTreeSet::new());
                }
                for segment in &mine.ending {
                    world.ram.view.remove(segment);
                }
            }
            Effect::RetireInputs => {
                let blobs = mine.ending.iter().map(|s| blob(*s)).collect();
                world.defer(Deferred::Retired(blobs), readers);
            }
            Effect::IndexCold => {
                let Some((segment, ..)) = mine.target else {
                    return;
                };
                if self.bug != Bug::ForgetsIndex {
                    world.ram.view.insert(segment, BTreeSet::new());
                }
                for row in mine.packed.iter().filter(|_| mine.point.is_none()) {
                    if !mine.moved.contains(row) {
                        world.ram.dead.insert((segment, *row));
                    } else if let Some(e) = world.ram.directory.get_mut(row) {
                        e.leaving = true;
                    }
                }
            }
            Effect::DropHot => {
                for row in &mine.moved {
                    if let Some(e) = world.ram.directory.get_mut(row) {
                        e.leaving = true;
                    }
                }
                world.defer(Deferred::Demoted(mine.moved.clone()), readers);
            }
            Effect::ShowHot => {
                for row in &mine.moved {
                    let Some((point, _)) = world.disk.homes.get(row) else {
                        continue;
                    };
                    let (point, leaving, killed) = (*point, false, false);
                    let entry = Entry {
                        point,
                        leaving,
                        killed,
                    };
                    world.ram.directory.insert(*row, entry);
                }
            }
            Effect::UndoHot if self.bug != Bug::ForgetsUndo => {
                for row in &mine.moved {
                    world.ram.hot.remove(row);
                }
            }
            _ => {}
        }
        debug_assert!(
            world.ram.writer.is_none_or(|w| w == i)
                || matches!(mine.effect, Effect::DropHot | Effect::RetireInputs)
        );
    }

    /// A user's write: commit under the lock, then publication.
    fn write_on(&self, i: usize, write: &Write, steps: &mut Steps) {
        let point = write.point;
        if let Some((new, old)) = write.committed {
            let mut next = self.clone();
            if let Some(row) = new {
                let (leaving, killed) = (false, false);
                let entry = Entry {
                    point,
                    leaving,
                    killed,
                };
                next.world.ram.directory.insert(row, entry);
            }
            next.publish(point, new, old);
            next.world.ram.writer = None;
            next.doing[i] = Doing::Done;
            steps.push((format!("{i}: the write of {point} is shown"), Ok(next)));
            return;
        }
        if !self.free(i) {
            return;
        }
        for fate in self.fates() {
            let mut next = self.clone();
            let mut image = next.world.disk.clone();
            let old = image.points.get(&point).copied();
            let old = kill(&mut image, old);
            image.points.remove(&point);
            let new = (!write.delete).then(|| Row(next.world.number()));
            if let Some(row) = new {
                image.points.insert(point, row);
                image.homes.insert(row, (point, Home::Meta));
                if fate == Fate::Done {
                    // Above `visible`, no search sees it yet.
                    next.world.ram.hot.insert(row);
                }
            }
            if fate.may_happen() {
                next.world.doubt.insert(point, new);
            }
            next.commit(fate, image);
            if fate == Fate::Done {
                next.world.ram.writer = Some(i);
                next.doing[i] = Doing::Writes(Write {
                    committed: Some((new, old)),
                    ..write.clone()
                });
            } else {
                next.doing[i] = Doing::Done;
            }
            let what = if write.delete { "delete" } else { "upsert" };
            next.both(format!("{i}: {what} of {point}: {fate:?}"), steps);
        }
    }

    /// Makes a committed write visible and acknowledges it.
    fn publish(&mut self, point: u8, new: Option<Row>, old: Option<Killed>) {
        let mark = self.world.number();
        let readers = self.readers() && self.bug != Bug::KillsUnderReaders;
        let world = &mut self.world;
        if let Some((old, segment)) = old {
            world.ram.kills.insert(old, mark);
            if let Some(e) = world.ram.directory.get_mut(&old) {
                e.killed = true;
            }
            world.ram.visible = mark;
            world.defer(Deferred::Killed(old, segment), readers);
        }
        world.ram.visible = mark;
        match new {
            Some(row) => drop(world.truth.insert(point, row)),
            None => drop(world.truth.remove(&point)),
        }
        world.doubt.remove(&point);
    }

    /// The plan of an open. What may still land keeps its note.
    fn begin_recovery(&self) -> Self {
        let mut next = self.clone();
        let (disk, blobs, flying) = (&self.world.disk, &self.world.blobs, &self.world.flying);
        let patient = |n: &&Intent| n.kind == IntentKind::Garbage && flying.contains_key(&n.blob);
        let intents = disk.intents.values().filter(|n| !patient(n)).cloned();
        let intents: Vec<Intent> = intents.collect();
        let manifest: Vec<_> = disk.manifest.iter().map(|(s, b)| (*s, b.clone())).collect();
        let noted: Vec<_> = disk.intents.values().filter(patient).collect();
        let listed = blobs.keys().filter(|k| noted.iter().all(|n| n.blob != **k));
        let present: Vec<BlobKey> = listed.cloned().collect();
        let (mut repairs, mut done) = (Vec::new(), Vec::new());
        for repair in plan_recovery(&intents, &manifest, &present) {
            match repair {
                Repair::DeleteIntent(number) => done.push(number),
                other => repairs.push(other),
            }
        }
        if self.bug == Bug::RecoversWithoutBlobs {
            repairs.clear();
        }
        if self.bug == Bug::RecoversWithoutIntents {
            done.clear();
        }
        repairs.reverse();
        next.mode = Mode::Recovering(repairs, done);
        // What lands from now on waits for the next open.
        (next.swept, next.abandoned) = (true, false);
        next
    }

    fn recover(&self, steps: &mut Steps) {
        let Mode::Recovering(repairs, done) = &self.mode else {
            return;
        };
        let mut next = self.clone();
        let cut = self.budget.crashes > 0;
        if let Some((repair, rest)) = repairs.split_last() {
            let label = format!("recovery: {repair:?}");
            if cut {
                let mut down = self.clone();
                down.cut();
                steps.push((format!("{label}: power cut before"), Ok(down)));
            }
            match repair {
                Repair::DeleteBlob(key) => drop(next.world.blobs.remove(key)),
                Repair::Missing(_, key) => {
                    steps.push((label, Err(format!("recovery misses {key}"))));
                    return;
                }
                Repair::DeleteIntent(_) => {}
            }
            if cut {
                let mut down = next.clone();
                down.cut();
                steps.push((format!("{label}: power cut after"), Ok(down)));
            }
            next.mode = Mode::Recovering(rest.to_vec(), done.clone());
            steps.push((label, Ok(next)));
            return;
        }
        let label = "recovery: the intents go".to_owned();
        if cut {
            let mut down = self.clone();
            down.cut();
            steps.push((format!("{label}: power cut before"), Ok(down)));
        }
        next.world.disk.intents.retain(|n, _| !done.contains(n));
        if cut {
            let mut down = next.clone();
            down.cut();
            steps.push((format!("{label}: power cut after"), Ok(down)));
        }
        next.world.load();
        next.mode = Mode::Running;
        steps.push((label, Ok(next)));
    }
}

/// Ends a row in an image; answers it with the segment that was its home.
fn kill(image: &mut Image, row: Option<Row>) -> Option<Killed> {
    let row = row?;
    let segment = match image.homes.remove(&row) {
        Some((_, Home::Segment(segment))) => Some(segment),
        Some((_, Home::Meta)) | None => None,
    };
    image.dead.extend(segment.map(|s| (s, row)));
    image.resident.remove(&row);
    Some((row, segment))
}
