//! How writes become durable: callers queue, the committer takes what waits, writes it as one batch, and answers them all.
//!
//! For a group, under the writer's lock: find each id's current row; insert the rows that will be hot into the index (no search
//! sees them yet, since their numbers lie above `visible`); write the rows that found no room into a segment; commit one batch;
//! then publish: cold view, directory, kills, `visible`. A failure before the commit leaves no trace. The group commit is what
//! makes writes fast: a sync costs the same for one point as for a thousand.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument;

use super::directory::{Entry, extra_bytes};
use super::driver::{Draft, Work, drive};
use super::explained::Mover;
use super::inner::{Inner, Step, Why, Writer};
use super::pack::stubs;
use super::readers::Deferred;
use super::record::{Counters, Expiry, Fresh, Home, Stub, dead_key, key};
use super::types::{Changed, Ttl, Written};
use crate::clock::Time;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::id::{BlobKey, PointId, Row, SegmentId};
use crate::migrate::{Effect, IntentKind, Machine, Outcome};
use crate::role::{Batch, Event, Table, Tier};
use crate::segment::SegmentRow;

/// A point that was checked and is ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) id: PointId,
    pub(crate) vector: Vec<f32>,
    pub(crate) payload: Option<Bytes>,
    pub(crate) ttl: Option<Ttl>,
}

/// What a caller wants.
#[derive(Debug)]
pub(crate) enum Wish {
    Upsert(Vec<Prepared>),
    Delete(Vec<PointId>),
    /// Both, seen together.
    Change(Vec<Prepared>, Vec<PointId>),
    /// Rows found to have expired: each goes only if it is still its point's current row.
    Expire(Vec<(PointId, Row)>),
    Pin(Vec<PointId>, bool),
}

/// What a caller gets.
#[derive(Debug)]
pub(crate) enum Reply {
    Written(Written),
    Count(usize),
    Changed(Changed),
}

impl Reply {
    /// What it says of written points.
    fn written(&mut self) -> Option<&mut Written> {
        match self {
            Self::Written(written) | Self::Changed(Changed { written, .. }) => Some(written),
            Self::Count(_) => None,
        }
    }
}

/// A caller's place in the queue.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) wish: Wish,
    pub(crate) reply: oneshot::Sender<Result<Reply>>,
}

impl Wish {
    fn weight(&self) -> usize {
        match self {
            Self::Upsert(points) => points.len(),
            Self::Delete(ids) | Self::Pin(ids, _) => ids.len(),
            Self::Change(points, ids) => points.len() + ids.len(),
            Self::Expire(rows) => rows.len(),
        }
    }

    /// Points that it writes.
    fn points(&self) -> &[Prepared] {
        match self {
            Self::Upsert(points) | Self::Change(points, _) => points,
            Self::Delete(_) | Self::Expire(_) | Self::Pin(..) => &[],
        }
    }

    /// Bytes that it puts into the group's batch, about.
    fn bytes(&self) -> usize {
        const A_ROW: usize = 160;
        let payload = |p: &Prepared| p.payload.as_ref().map_or(0, Bytes::len);
        let points = self.points().iter();
        let vectors = points
            .map(|p| p.vector.len() * 4 + payload(p))
            .sum::<usize>();
        self.weight() * A_ROW + vectors
    }

    fn ids(&self) -> Vec<&PointId> {
        match self {
            Self::Upsert(points) => points.iter().map(|p| &p.id).collect(),
            Self::Change(points, ids) => points.iter().map(|p| &p.id).chain(ids).collect(),
            Self::Delete(ids) | Self::Pin(ids, _) => ids.iter().collect(),
            Self::Expire(rows) => rows.iter().map(|(id, _)| id).collect(),
        }
    }

    fn inserts(&self) -> usize {
        self.points().len()
    }
}

/// Points of one group, about: enough to hide a sync, few enough not to delay the first caller.
const GROUP_POINTS: usize = 4096;

/// Takes groups from the queue until all senders are gone.
pub(crate) async fn run(inner: Arc<Inner>, mut calls: mpsc::Receiver<Call>) {
    let mut held: Option<Call> = None;
    loop {
        let first = match held.take() {
            Some(call) => call,
            None => match calls.recv().await {
                Some(call) => call,
                None => return,
            },
        };
        let (mut points, mut bytes) = (first.wish.weight(), first.wish.bytes());
        let mut group = vec![first];
        while let Ok(call) = calls.try_recv() {
            points += call.wish.weight();
            bytes += call.wish.bytes();
            if points > GROUP_POINTS || bytes > inner.meta_capability.batch_bytes_max / 2 {
                held = Some(call);
                break;
            }
            group.push(call);
        }
        let (wishes, replies): (Vec<_>, Vec<_>) =
            group.into_iter().map(|c| (c.wish, c.reply)).unzip();
        let begun = Instant::now();
        let span = tracing::debug_span!("commit", calls = wishes.len(), points);
        let result = inner.commit_group(wishes).instrument(span).await;
        metrics::histogram!("aether_commit_seconds").record(begun.elapsed().as_secs_f64());
        match result {
            Ok(answers) => {
                for (reply, answer) in replies.into_iter().zip(answers) {
                    // A caller that gave up waiting has nobody to answer to.
                    drop(reply.send(Ok(answer)));
                }
            }
            Err(error) => {
                for reply in replies {
                    drop(reply.send(Err(error.duplicate())));
                }
            }
        }
        inner.reap_off_worker().await;
    }
}

/// The row that a point has now.
#[derive(Clone, Debug)]
struct Current {
    row: Row,
    home: Home,
    /// Whether the row is in the directory, and so its removal waits for readers there.
    resident: bool,
}

/// A new row of the group.
struct NewRow {
    row: Row,
    point: Prepared,
    expiry: Option<Expiry>,
    /// The row that it takes the place of.
    replaces: Option<Row>,
}

/// What the group does, gathered before anything is written.
#[derive(Default)]
struct Plan {
    news: Vec<NewRow>,
    kills: Vec<Current>,
    /// Kills that no new row follows.
    removed: Vec<Row>,
    pins: Vec<(PointId, Row, bool)>,
    unpinned_by_delete: Vec<PointId>,
    answers: Vec<Reply>,
    points: u64,
}

impl Inner {
    async fn commit_group(self: &Arc<Self>, wishes: Vec<Wish>) -> Result<Vec<Reply>> {
        self.check_writable()?;
        let inserts: usize = wishes.iter().map(Wish::inserts).sum();
        if inserts > 0 {
            self.make_room(inserts).await;
        }
        // After a failure the numbers given out stay spent: none is ever used twice.
        let mut guard = self.writer.lock().await;
        self.commit_locked(&mut guard, wishes).await
    }

    async fn commit_locked(
        self: &Arc<Self>,
        writer: &mut Writer,
        wishes: Vec<Wish>,
    ) -> Result<Vec<Reply>> {
        let mut current = self.current_rows(wishes.iter().flat_map(Wish::ids)).await?;
        let mut plan = self.plan(writer, wishes, &mut current);
        // The last number of the group marks its moment.
        let mark = writer.counters.next_row;
        writer.counters.next_row += 1;

        let extra = |n: &NewRow| extra_bytes(&n.point.id, n.expiry.is_some());
        let room = self.fitting(plan.news.iter().map(extra));
        let cold_rows = plan.news.split_off(room);
        let mut batch = Batch::new(writer.epoch);
        self.fill_batch(&mut batch, &plan, &cold_rows);

        let hot_rows: Vec<Row> = plan.news.iter().map(|n| n.row).collect();
        let vectors: Vec<f32> = plan
            .news
            .iter()
            .flat_map(|n| &n.point.vector)
            .copied()
            .collect();
        self.insert_hot(hot_rows.clone(), vectors).await?;
        let mut packed: Vec<&NewRow> = cold_rows.iter().collect();
        if self.homes_new_rows_cold() {
            packed.extend(&plan.news);
        }
        let committed = if packed.is_empty() {
            let counters = writer.counters.counting(plan.points);
            self.commit_acknowledged(counters, batch)
                .await
                .map(|()| Vec::new())
        } else {
            self.write_cold(writer, batch, packed, plan.points).await
        };
        let stubs = match committed {
            Ok(stubs) => stubs,
            Err(error) => {
                // Above `visible`, no search has seen them. After an unknown outcome they stay invisible and writing has ended.
                for row in hot_rows {
                    self.hot.remove(row)?;
                }
                return Err(error);
            }
        };
        writer.counters.points = plan.points;
        self.publish(mark, &plan, &cold_rows, &stubs);
        self.counts.commits.fetch_add(1, Ordering::Relaxed);
        if !cold_rows.is_empty() {
            let landed: HashSet<Row> = cold_rows.iter().map(|new| new.row).collect();
            for answer in &mut plan.answers {
                if let Some(written) = answer.written() {
                    written.cold = written.rows.iter().filter(|r| landed.contains(r)).count();
                }
            }
        }
        Ok(plan.answers)
    }

    /// The current row of each id, from the directory or the metadata store.
    async fn current_rows<'a>(
        &self,
        ids: impl Iterator<Item = &'a PointId>,
    ) -> Result<HashMap<PointId, Current>> {
        let mut current = HashMap::new();
        let mut unknown: Vec<&PointId> = Vec::new();
        {
            let directory = self.directory.read();
            for id in ids {
                match directory.id(id) {
                    Some(e) => {
                        let known = Current {
                            row: e.row,
                            home: e.home(),
                            resident: true,
                        };
                        current.insert(id.clone(), known);
                    }
                    None => unknown.push(id),
                }
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        let keys: Vec<Bytes> = unknown.iter().map(|id| Bytes::from(id.key())).collect();
        let mut cold: Vec<(&PointId, Row)> = Vec::new();
        for (id, value) in unknown
            .into_iter()
            .zip(self.get_chunked(Table::Points, &keys).await?)
        {
            if let Some(value) = value {
                cold.push((id, Row::decode(&value)?));
            }
        }
        let keys: Vec<Bytes> = cold
            .iter()
            .map(|(_, r)| Bytes::copy_from_slice(&r.key()))
            .collect();
        for ((id, row), value) in cold
            .into_iter()
            .zip(self.get_chunked(Table::Cold, &keys).await?)
        {
            let Some(value) = value else {
                return Err(Error::corrupt(
                    "the metadata store names a row of this point that it does not hold; run `aether check`",
                )
                .with("id", Self::brief(id))
                .with("row", row));
            };
            let stub = Stub::decode(&value)?;
            let home = Home::Segment(stub.segment, stub.ordinal);
            current.insert(
                id.clone(),
                Current {
                    row,
                    home,
                    resident: false,
                },
            );
        }
        Ok(current)
    }

    /// [`MetaStore::get`](crate::role::MetaStore::get) of any number of keys.
    pub(crate) async fn get_chunked(
        &self,
        table: Table,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>> {
        let mut values = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(4096) {
            values.extend(self.meta.get(table, chunk).await?);
        }
        Ok(values)
    }

    /// Goes through the wishes in order, as if each were alone.
    fn plan(
        &self,
        writer: &mut Writer,
        wishes: Vec<Wish>,
        current: &mut HashMap<PointId, Current>,
    ) -> Plan {
        let now = self.now();
        let mut plan = Plan {
            points: writer.counters.points,
            ..Plan::default()
        };
        // Rows of this very group that a later wish replaced: they are never written.
        let mut index_of: HashMap<Row, usize> = HashMap::new();
        let mut gone: Vec<usize> = Vec::new();
        let mut room_for_answers = Vec::new();
        for wish in wishes {
            let answer = match wish {
                Wish::Upsert(points) => {
                    let mut write = |point| {
                        plan_point(
                            &mut plan,
                            writer,
                            now,
                            current,
                            &mut index_of,
                            &mut gone,
                            point,
                        )
                    };
                    let rows = points.into_iter().map(&mut write).collect();
                    Reply::Written(Written { rows, cold: 0 })
                }
                Wish::Delete(ids) => {
                    let remove = |id| plan_removal(&mut plan, current, &index_of, &mut gone, id);
                    Reply::Count(ids.iter().map(remove).filter(|there| *there).count())
                }
                Wish::Change(points, ids) => {
                    let remove = |id| plan_removal(&mut plan, current, &index_of, &mut gone, id);
                    let deleted = ids.iter().map(remove).filter(|there| *there).count();
                    let mut write = |point| {
                        plan_point(
                            &mut plan,
                            writer,
                            now,
                            current,
                            &mut index_of,
                            &mut gone,
                            point,
                        )
                    };
                    let rows = points.into_iter().map(&mut write).collect();
                    let written = Written { rows, cold: 0 };
                    Reply::Changed(Changed { written, deleted })
                }
                Wish::Expire(rows) => {
                    let mut count = 0;
                    for (id, row) in &rows {
                        if current.get(id).is_some_and(|c| c.row == *row) {
                            let removed =
                                plan_removal(&mut plan, current, &index_of, &mut gone, id);
                            count += usize::from(removed);
                        }
                    }
                    Reply::Count(count)
                }
                Wish::Pin(ids, pinned) => {
                    let mut count = 0;
                    for id in ids {
                        if let Some(c) = current.get(&id) {
                            count += 1;
                            let row = c.row;
                            plan.pins.push((id, row, pinned));
                        }
                    }
                    Reply::Count(count)
                }
            };
            room_for_answers.push(answer);
        }
        plan.answers = room_for_answers;
        gone.sort_unstable();
        for place in gone.into_iter().rev() {
            plan.news.remove(place);
        }
        // A pin holds for what its point is at the end of the group.
        for (id, row, _) in &mut plan.pins {
            if let Some(c) = current.get(id) {
                *row = c.row;
            }
        }
        plan
    }
}

/// Gives a point its row, and takes note of what that row replaces.
fn plan_point(
    plan: &mut Plan,
    writer: &mut Writer,
    now: Time,
    current: &mut HashMap<PointId, Current>,
    index_of: &mut HashMap<Row, usize>,
    gone: &mut Vec<usize>,
    point: Prepared,
) -> Row {
    let row = Row(writer.counters.next_row);
    writer.counters.next_row += 1;
    let expiry = point.ttl.map(|ttl| Expiry {
        at: now.after(ttl.lifetime).0,
        lifetime: u64::try_from(ttl.lifetime.as_micros()).unwrap_or(u64::MAX),
        renew: ttl.renew,
    });
    let next = Current {
        row,
        home: Home::Fresh,
        resident: false,
    };
    let mut replaces = None;
    match current.insert(point.id.clone(), next) {
        None => plan.points += 1,
        Some(old) => {
            replaces = Some(old.row);
            match index_of.get(&old.row) {
                Some(place) => {
                    replaces = plan.news[*place].replaces;
                    gone.push(*place);
                }
                None => plan.kills.push(old),
            }
        }
    }
    index_of.insert(row, plan.news.len());
    plan.news.push(NewRow {
        row,
        point,
        expiry,
        replaces,
    });
    row
}

fn plan_removal(
    plan: &mut Plan,
    current: &mut HashMap<PointId, Current>,
    index_of: &HashMap<Row, usize>,
    gone: &mut Vec<usize>,
    id: &PointId,
) -> bool {
    let Some(old) = current.remove(id) else {
        return false;
    };
    plan.points = plan.points.saturating_sub(1);
    match index_of.get(&old.row) {
        Some(place) => {
            gone.push(*place);
            plan.removed.extend(plan.news[*place].replaces);
        }
        None => {
            plan.removed.push(old.row);
            plan.kills.push(old);
        }
    }
    plan.pins.retain(|(pinned, ..)| pinned != id);
    plan.unpinned_by_delete.push(id.clone());
    true
}

impl Inner {
    /// Whether rows are to have a segment as home before their write is acknowledged.
    fn homes_new_rows_cold(&self) -> bool {
        self.config.memory.durability == Durability::Cold
    }

    /// Commits a group as durably as its callers were promised.
    async fn commit_acknowledged(&self, counters: Counters, batch: Batch) -> Result<()> {
        if self.config.memory.durability == Durability::None {
            self.commit_undurable(counters, batch).await
        } else {
            self.commit_counting(counters, batch).await
        }
    }

    /// Puts all that does not depend on where new rows land, and the rows that land hot, into the batch.
    fn fill_batch(&self, batch: &mut Batch, plan: &Plan, cold_rows: &[NewRow]) {
        for kill in &plan.kills {
            let row = kill.row.key().to_vec();
            match kill.home {
                Home::Fresh => batch.delete(Table::Fresh, row.clone()),
                Home::Segment(segment, ordinal) => {
                    batch.delete(Table::Cold, row.clone());
                    batch.delete(Table::Resident, row.clone());
                    batch.put(Table::Dead, dead_key(segment, ordinal), row.clone());
                }
            }
            batch.delete(Table::State, key::expiry(kill.row));
        }
        for id in &plan.unpinned_by_delete {
            batch.delete(Table::Points, id.key());
            batch.delete(Table::State, key::pin(id));
        }
        for new in plan.news.iter().chain(cold_rows) {
            batch.put(Table::Points, new.point.id.key(), new.row.key().to_vec());
            if let Some(expiry) = new.expiry {
                batch.put(Table::State, key::expiry(new.row), expiry.encode());
                batch.put(
                    Table::State,
                    key::due(expiry.at, new.row),
                    new.point.id.key(),
                );
            }
        }
        for new in &plan.news {
            let NewRow {
                point, expiry, row, ..
            } = new;
            if self.homes_new_rows_cold() {
                batch.put(Table::Resident, row.key().to_vec(), Bytes::new());
                continue;
            }
            let payload = point.payload.as_deref();
            let value = Fresh::encode(&point.id, expiry.is_some(), &point.vector, payload);
            batch.put(Table::Fresh, row.key().to_vec(), value);
        }
        for (id, _, pinned) in &plan.pins {
            if *pinned {
                batch.put(Table::State, key::pin(id), Bytes::new());
            } else {
                batch.delete(Table::State, key::pin(id));
            }
        }
    }

    /// Writes rows straight into a segment; the group's batch is its commit.
    async fn write_cold(
        self: &Arc<Self>,
        writer: &mut Writer,
        batch: Batch,
        rows: Vec<&NewRow>,
        points: u64,
    ) -> Result<Vec<(Row, Stub)>> {
        let draft = self.draft(writer)?;
        let mut machine = Machine::write(draft.segment, draft.blob.clone());
        let mut work = ColdWrite {
            inner: self,
            writer,
            draft,
            rows,
            batch: Some(batch),
            points,
            stubs: Vec::new(),
        };
        let (outcome, error) = drive(&mut machine, &mut work).await?;
        match outcome {
            Outcome::Completed => Ok(work.stubs),
            Outcome::RolledBack | Outcome::Abandoned => {
                self.counts
                    .migrations_failed
                    .fetch_add(1, Ordering::Relaxed);
                Err(error.unwrap_or_else(|| Error::internal("a write failed without a reason")))
            }
        }
    }

    /// Makes a committed group visible, all at once. `stubs` are of the rows that have a segment as home.
    fn publish(
        self: &Arc<Self>,
        mark: u64,
        plan: &Plan,
        cold_rows: &[NewRow],
        stubs: &[(Row, Stub)],
    ) {
        let place = |(row, stub): &(Row, Stub)| (*row, Home::Segment(stub.segment, stub.ordinal));
        let homes: HashMap<Row, Home> = stubs.iter().map(place).collect();
        {
            // A pin belongs to the point: a new version takes it over.
            let mut pins = self.pins.write();
            for new in plan.news.iter().chain(cold_rows) {
                if let Some(old) = new.replaces
                    && pins.remove(&old)
                {
                    pins.insert(new.row);
                }
            }
            for row in &plan.removed {
                pins.remove(row);
            }
            for (_, row, pinned) in &plan.pins {
                if *pinned {
                    pins.insert(*row);
                } else {
                    pins.remove(row);
                }
            }
        }
        let mut killed = Vec::with_capacity(plan.kills.len());
        {
            // Kills first: a search that begins after `visible` moves must not see an old version.
            let mut kills = self.kills.write();
            let mut restore = self.restore.lock();
            for kill in &plan.kills {
                kills.insert(kill.row, mark);
                restore.forget(kill.row);
            }
        }
        {
            let mut directory = self.directory.write();
            for kill in &plan.kills {
                // Its home may have changed since it was looked up only under the lock that we hold, so it has not.
                let place = match kill.home {
                    Home::Fresh => None,
                    Home::Segment(segment, ordinal) => Some((segment, ordinal)),
                };
                if kill.resident {
                    directory.kill(kill.row);
                }
                killed.push((kill.row, place));
            }
            for new in &plan.news {
                let payload = new.point.payload.is_some();
                let home = homes.get(&new.row).copied().unwrap_or(Home::Fresh);
                directory.insert(Entry::new(new.point.id.clone(), new.row, home, payload));
                if let Some(expiry) = new.expiry {
                    directory.set_expiry(new.row, expiry);
                }
            }
        }
        self.points.store(plan.points, Ordering::Release);
        self.visible.store(mark, Ordering::Release);
        if !killed.is_empty() {
            self.readers.defer(Deferred::Killed(killed));
        }
        self.announce(plan, cold_rows);
    }

    /// Tells counters and policy.
    fn announce(&self, plan: &Plan, cold_rows: &[NewRow]) {
        let now = self.now();
        let (news, colds) = (plan.news.len() as u64, cold_rows.len() as u64);
        self.counts
            .upserts
            .fetch_add(news + colds, Ordering::Relaxed);
        self.counts.landed_cold.fetch_add(colds, Ordering::Relaxed);
        metrics::counter!("aether_writes_total", "kind" => "upsert").increment(news + colds);
        metrics::counter!("aether_writes_total", "kind" => "delete")
            .increment(plan.removed.len() as u64);
        let entered = |new: &NewRow, tier: Tier| {
            let item = self.item(new.row);
            match new.replaces {
                None => Event::Inserted { item, tier },
                Some(old) => Event::Replaced { old, item, tier },
            }
        };
        let events: Vec<Event> = (plan.news.iter().map(|n| entered(n, Tier::Hot)))
            .chain(cold_rows.iter().map(|n| entered(n, Tier::Cold)))
            .chain(plan.removed.iter().map(|row| Event::Removed { row: *row }))
            .chain(plan.pins.iter().map(|(_, row, pinned)| Event::Pinned {
                row: *row,
                pinned: *pinned,
            }))
            .collect();
        self.desk.tell(events, now);
        let written = plan.news.iter().chain(cold_rows);
        self.record(written.map(|n| &n.point.id), true);
        if !cold_rows.is_empty() {
            let step = |new: &NewRow| Step::unasked(new.row, "the hot tier was full");
            let steps: Vec<Step> = cold_rows.iter().map(step).collect();
            self.remember(
                &steps,
                Tier::Cold,
                &Why {
                    by: Mover::NoRoom,
                    midpoint: None,
                },
            );
        }
    }

    /// Reads expiries of rows from the metadata store.
    pub(crate) async fn expiries(&self, rows: &[Row]) -> Result<BTreeMap<Row, Expiry>> {
        let keys: Vec<Bytes> = rows.iter().map(|r| key::expiry(*r)).collect();
        let mut found = BTreeMap::new();
        for (row, value) in rows
            .iter()
            .zip(self.get_chunked(Table::State, &keys).await?)
        {
            if let Some(value) = value {
                found.insert(*row, Expiry::decode(&value)?);
            }
        }
        let renewals = self.renewals.lock();
        for (row, expiry) in &mut found {
            if let Some(renewed) = renewals.get(row) {
                *expiry = *renewed;
            }
        }
        Ok(found)
    }
}

/// New rows on their way straight into a segment.
struct ColdWrite<'a> {
    inner: &'a Arc<Inner>,
    writer: &'a Writer,
    draft: Draft,
    rows: Vec<&'a NewRow>,
    batch: Option<Batch>,
    /// Points there are once the batch is committed. The commits before it (centroids, intent) must not count them yet: a crash
    /// in between would leave the wrong number.
    points: u64,
    stubs: Vec<(Row, Stub)>,
}

impl Work for ColdWrite<'_> {
    async fn perform(&mut self, effect: &Effect) -> Result<()> {
        let inner = self.inner;
        match effect {
            Effect::CommitIntent(..) => {
                let ttl: BTreeMap<Row, bool> = self
                    .rows
                    .iter()
                    .map(|n| (n.row, n.expiry.is_some()))
                    .collect();
                let rows = self.rows.iter().map(|n| SegmentRow {
                    row: n.row,
                    id: n.point.id.clone(),
                    vector: n.point.vector.clone(),
                    payload: n.point.payload.clone(),
                    partition: 0,
                });
                let packed = inner
                    .pack(Some(self.writer), &mut self.draft, rows.collect())
                    .await?;
                let segment: SegmentId = self.draft.segment;
                self.stubs = stubs(segment, packed, |row| {
                    ttl.get(&row).copied().unwrap_or(false)
                });
                inner
                    .commit_intent(self.writer, &self.draft, IntentKind::Started)
                    .await
            }
            Effect::PutBlob(_) => inner.put_blob(&self.draft).await,
            Effect::CommitMove => {
                let mut batch = self
                    .batch
                    .take()
                    .ok_or_else(|| Error::internal("a group was committed twice"))?;
                for (row, stub) in &self.stubs {
                    batch.put(Table::Cold, row.key().to_vec(), stub.encode());
                }
                self.draft.commit_into(&mut batch)?;
                let counters = self.writer.counters.counting(self.points);
                inner.commit_counting(counters, batch).await
            }
            Effect::IndexCold => inner.index_segment(&mut self.draft),
            Effect::CommitGarbage(..) => {
                inner
                    .commit_intent(self.writer, &self.draft, IntentKind::Garbage)
                    .await
            }
            other => Err(Error::internal(format!("a cold write cannot do {other:?}"))),
        }
    }

    async fn look(&mut self, _: &BlobKey) -> Result<bool> {
        self.inner.look_blob(&self.draft).await
    }
}
