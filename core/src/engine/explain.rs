//! Why a point is where it is.

use std::sync::Arc;

use bytes::Bytes;

use super::explained::Explained;
use super::inner::Inner;
use super::outlook::{Outlook, Place};
use super::record::{Home, Stub};
use crate::error::{Error, Result};
use crate::flux::Draw;
use crate::id::{PointId, Row};
use crate::role::{Table, Tier};

/// Moves of one row that are told.
const MOVES_TOLD: usize = 8;

impl Inner {
    /// The whole story of one point; `None` if there is no such point. Counts as no access.
    pub(super) async fn explain(self: &Arc<Self>, id: &PointId) -> Result<Option<Explained>> {
        self.check_open()?;
        id.validate()?;
        let resident = self
            .directory
            .read()
            .id(id)
            .map(|e| (e.row, e.home(), e.leaving()));
        let (row, home, tier) = match resident {
            Some((row, home, leaving)) => (row, home, if leaving { Tier::Cold } else { Tier::Hot }),
            None => match self.find_cold(id).await? {
                Some((row, home)) => (row, home, Tier::Cold),
                None => return Ok(None),
            },
        };
        let fill = self.fill();
        let context = self.context(fill);
        let gauge = *self.gauge.lock();
        let standing = self.desk.with(|policy| policy.explain(row, &context));
        let pinned = self.pinned(row);
        let home = match home {
            Home::Fresh => "metadata store".to_owned(),
            Home::Segment(segment, ordinal) => {
                let view = self.view();
                let found = view.find(segment);
                let block = found.and_then(|s| {
                    let (block, _) = s.directory.locate(ordinal)?;
                    s.directory.blocks.get(block).map(|b| b.partition)
                });
                match (block, view.lost.get(&segment)) {
                    (Some(partition), _) => format!("segment {segment}, partition {partition}"),
                    (None, Some(lost)) => {
                        format!("segment {segment}, which is lost: {}", lost.refusal())
                    }
                    (None, None) => format!("segment {segment}"),
                }
            }
        };
        let flux = &self.config.flux;
        let draw = gauge.midpoint.map(|midpoint| Draw {
            midpoint,
            steepness: flux.steepness,
            temperature: gauge.temperature,
        });
        // A turn that is under way holds the scheduler's state: then it is not known whether the row drifts.
        let drifting = (self.flux.try_lock()).is_ok_and(|f| f.drifting.contains_key(&row));
        let place = Place {
            config: flux,
            tier,
            pinned,
            keep: standing.keep,
            draw,
            share: fill.share(),
            rows: fill.rows,
            drifting,
            waiting: self.restore.lock().tries(row),
        };
        let next = place.outlook();
        let moves = self
            .moves
            .lock()
            .last(row, MOVES_TOLD, &self.config.policy.backend);
        Ok(Some(Explained {
            id: id.clone(),
            row,
            at: context.now,
            tier,
            home,
            pinned,
            moves,
            policy: self.config.policy.backend.clone(),
            standing,
            threshold: gauge.midpoint.map(|m| m.at),
            temperature: gauge.temperature,
            pressure: fill.share(),
            shadow_tier: None,
            objective: self.aim.derived(),
            index: (tier == Tier::Hot)
                .then(|| self.hot.stats().choice)
                .flatten(),
            next,
        }))
    }

    /// The same in the eyes of a shadow: in which tier it would have the row, and why.
    pub(super) async fn explain_by(
        self: &Arc<Self>,
        id: &PointId,
        policy: &str,
    ) -> Result<Option<Explained>> {
        let Some(mut explained) = self.explain(id).await? else {
            return Ok(None);
        };
        if policy == self.config.policy.backend {
            return Ok(Some(explained));
        }
        let (row, now) = (explained.row, self.now());
        let found = self.desk.with_shadows(|shadows| {
            let names = shadows.names().join(", ");
            shadows.explain(policy, row, now).ok_or(names)
        });
        let (tier, standing) = found.map_err(|names| {
            let shadows = match names.is_empty() {
                true => "there is no shadow".to_owned(),
                false => format!("the shadows are {names}"),
            };
            Error::invalid_input(format!(
                "policy {policy:?}: expected the live one, {}, or a shadow, and {shadows}: name it in [shadow] policies",
                self.config.policy.backend
            ))
        })?;
        explained.next = Outlook::still(format!(
            "nothing by {policy}, which is a shadow: it {}.",
            match tier {
                Some(Tier::Hot) => "would have it hot",
                Some(Tier::Cold) => "would have it cold",
                None => "does not look at this point",
            }
        ));
        explained.shadow_tier = tier;
        explained.policy = policy.to_owned();
        explained.standing = standing;
        explained.threshold = None;
        Ok(Some(explained))
    }

    /// The row and home of a point that is not resident.
    pub(super) async fn find_cold(&self, id: &PointId) -> Result<Option<(Row, Home)>> {
        for _ in 0..8 {
            let points = self
                .meta
                .get(Table::Points, &[Bytes::from(id.key())])
                .await?;
            let Some(value) = points.into_iter().next().flatten() else {
                return Ok(None);
            };
            let row = Row::decode(&value)?;
            let key = Bytes::copy_from_slice(&row.key());
            if let Some(value) = self
                .meta
                .get(Table::Cold, &[key])
                .await?
                .into_iter()
                .next()
                .flatten()
            {
                let stub = Stub::decode(&value)?;
                return Ok(Some((row, Home::Segment(stub.segment, stub.ordinal))));
            }
            // It was moved or replaced between the two looks; whoever did holds this lock until it can be seen.
            drop(self.writer.lock().await);
            if let Some(e) = self.directory.read().id(id) {
                return Ok(Some((e.row, e.home())));
            }
        }
        Ok(None)
    }
}
