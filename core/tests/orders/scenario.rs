//! What clients do at once, each its own list in order.

use std::time::Duration;

use fastrand::Rng;

use crate::common::Settings;

/// One thing that a client does.
#[derive(Clone, Debug)]
pub(crate) enum Do {
    Upsert(Vec<u64>),
    Delete(Vec<u64>),
    Get(u64),
    /// Many at once, each seen at an instant of its own.
    GetMany(Vec<u64>),
    /// Everything, at one instant.
    Search,
    /// Whatever is found in RAM is current.
    SearchHot,
    Demote(Vec<u64>),
    Promote(Vec<u64>),
    Pin(Vec<u64>),
    Unpin(Vec<u64>),
    Feedback(u64),
    Compact,
    Tick,
    /// Time goes on, past the end of the points that have one.
    Pass,
    Snapshot,
    /// Begins something and no longer waits for it, at any time.
    GiveUp(Box<Do>),
    Close,
}

/// Longer than any point of [`Scenario::mortal`] lives.
pub(crate) const PASS: Duration = Duration::from_secs(100);

/// What stands before, and what is done.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) settings: Settings,
    /// Ids in the cold store before, each group a segment.
    pub(crate) cold: Vec<Vec<u64>>,
    /// Ids in RAM before.
    pub(crate) hot: Vec<u64>,
    /// Those of them that end before [`PASS`] is over.
    pub(crate) mortal: Vec<u64>,
    /// What the clients of a seed do.
    pub(crate) clients: fn(seed: u64) -> Vec<Vec<Do>>,
    /// Schedules of it, in parts of what is usual.
    pub(crate) share: u64,
    /// Whether the budget is looked at before every turn, not only after what clients do.
    pub(crate) tight: bool,
    /// Hot bytes beside those that the memory tells: a mistake that is planted.
    pub(crate) hidden: u64,
    /// Points for which there is RAM, and not for one more; else what the settings say.
    pub(crate) room: Option<u64>,
}

impl Scenario {
    fn new(name: &'static str, clients: fn(u64) -> Vec<Vec<Do>>) -> Self {
        Self {
            name,
            settings: Settings {
                budget: "96KiB",
                insert_wait: "2ms",
                hot: "fake",
                flux: "batch_rows = 4\nsample = 16",
                compaction: "ratio = 3\nsegment_bytes = \"4KiB\"\nrate = \"0B\"\npatience = \"0s\"\ngrace = \"0s\"",
                search: "deadline = \"60s\"",
                ..Settings::default()
            },
            cold: vec![vec![3, 4]],
            hot: vec![1, 2],
            mortal: Vec::new(),
            clients,
            share: 1,
            tight: false,
            hidden: 0,
            room: None,
        }
    }

    /// RAM for seven points beside the tables, and not for eight.
    fn tight(name: &'static str, clients: fn(u64) -> Vec<Vec<Do>>) -> Self {
        let usual = Self::new(name, clients);
        Self {
            settings: Settings {
                dim: 512,
                // So long that a schedule shows who waited for it.
                insert_wait: "600s",
                flux: "batch_rows = 2\nsample = 16",
                ..usual.settings
            },
            cold: vec![vec![3, 4, 10], vec![11, 12]],
            hot: vec![1, 2, 5, 6, 7, 8],
            // Three times as many turns as the others.
            share: 5,
            tight: true,
            room: Some(7),
            ..usual
        }
    }

    pub(crate) fn commits_demotions_deletions_and_searches() -> Self {
        Self::new("commits_demotions_deletions_and_searches", |_| {
            vec![
                vec![Do::Upsert(vec![1, 3]), Do::Upsert(vec![1, 5])],
                vec![Do::Demote(vec![1, 2]), Do::Demote(vec![1, 5])],
                vec![Do::Delete(vec![2, 3]), Do::Delete(vec![2, 4])],
                vec![Do::Search, Do::Get(1), Do::Search],
                vec![Do::Get(3), Do::SearchHot, Do::Get(2), Do::Get(5)],
            ]
        })
    }

    pub(crate) fn promotions_and_deletions() -> Self {
        Self::new("promotions_and_deletions", |_| {
            vec![
                vec![Do::Promote(vec![3, 4]), Do::Demote(vec![3, 4])],
                vec![Do::Delete(vec![3]), Do::Upsert(vec![3, 4])],
                vec![Do::Promote(vec![4]), Do::Delete(vec![4])],
                vec![
                    Do::Search,
                    Do::GetMany(vec![3, 4]),
                    Do::SearchHot,
                    Do::Search,
                ],
            ]
        })
    }

    pub(crate) fn compaction_and_readers() -> Self {
        Self {
            cold: vec![vec![3, 4, 8], vec![5, 6], vec![7, 8, 9]],
            ..Self::new("compaction_and_readers", |_| {
                vec![
                    vec![Do::Compact, Do::Tick],
                    vec![Do::Delete(vec![5]), Do::Upsert(vec![6, 3]), Do::Compact],
                    vec![Do::Get(7), Do::Search, Do::Get(3)],
                    vec![Do::Search, Do::Promote(vec![9]), Do::Get(6)],
                ]
            })
        }
    }

    pub(crate) fn closing_and_everything() -> Self {
        Self {
            cold: vec![vec![3, 4], vec![5, 6], vec![7]],
            ..Self::new("closing_and_everything", |_| {
                vec![
                    vec![Do::Close],
                    vec![
                        Do::Upsert(vec![1, 3]),
                        Do::Delete(vec![2]),
                        Do::Upsert(vec![8]),
                    ],
                    vec![Do::Demote(vec![1, 2]), Do::Compact],
                    vec![Do::Promote(vec![4]), Do::Tick, Do::Pin(vec![5])],
                    vec![Do::Search, Do::Get(3), Do::Search],
                ]
            })
        }
    }

    pub(crate) fn snapshots_and_writes() -> Self {
        Self {
            share: 10,
            ..Self::new("snapshots_and_writes", |_| {
                vec![
                    vec![Do::Snapshot],
                    vec![
                        Do::Upsert(vec![1, 3]),
                        Do::Delete(vec![4]),
                        Do::Upsert(vec![4]),
                    ],
                    vec![Do::Demote(vec![1, 2]), Do::Promote(vec![3]), Do::Compact],
                    vec![Do::Delete(vec![2]), Do::Search],
                ]
            })
        }
    }

    pub(crate) fn pins_feedback_and_expiry() -> Self {
        Self {
            mortal: vec![1, 3, 4],
            ..Self::new("pins_feedback_and_expiry", |_| {
                vec![
                    vec![Do::Pass, Do::Tick],
                    vec![
                        Do::Pin(vec![1, 3]),
                        Do::Demote(vec![1, 2]),
                        Do::Unpin(vec![1]),
                    ],
                    vec![Do::Feedback(3), Do::Upsert(vec![3]), Do::Tick, Do::Get(4)],
                    vec![Do::Search, Do::Get(3), Do::Promote(vec![4]), Do::Search],
                ]
            })
        }
    }

    pub(crate) fn callers_who_give_up() -> Self {
        Self::new("callers_who_give_up", |_| {
            let gives_up = |what| Do::GiveUp(Box::new(what));
            vec![
                vec![gives_up(Do::Upsert(vec![1, 3])), Do::Upsert(vec![2])],
                vec![
                    gives_up(Do::Demote(vec![1, 2])),
                    gives_up(Do::Promote(vec![3])),
                ],
                vec![
                    gives_up(Do::Search),
                    gives_up(Do::Compact),
                    Do::Delete(vec![4]),
                ],
                vec![Do::Search, Do::GetMany(vec![1, 3]), Do::Search],
            ]
        })
    }

    /// Whatever comes into RAM needs room that something else must leave.
    pub(crate) fn no_room_in_ram() -> Self {
        Self::tight("no_room_in_ram", |_| {
            vec![
                vec![
                    Do::Upsert(vec![1, 13, 14]),
                    Do::Upsert(vec![3, 15]),
                    Do::Upsert(vec![16, 17, 18]),
                ],
                vec![Do::Promote(vec![10, 11, 12]), Do::Demote(vec![2, 10])],
                vec![Do::Tick, Do::Delete(vec![5, 13]), Do::Tick],
                vec![Do::Pin(vec![4, 6]), Do::Upsert(vec![2, 5, 12])],
                vec![Do::Search, Do::GetMany(vec![1, 13, 10]), Do::Search],
            ]
        })
    }

    /// The same while the memory's own tasks take turns too, and time ends some points.
    pub(crate) fn no_room_and_the_memory_s_own_tasks() -> Self {
        let tight = Self::tight("no_room_and_the_memory_s_own_tasks", |_| {
            vec![
                vec![Do::Upsert(vec![1, 13, 14]), Do::Upsert(vec![3, 15, 16])],
                vec![Do::Promote(vec![10, 12]), Do::Delete(vec![5, 13])],
                vec![Do::Pass, Do::Upsert(vec![2, 17])],
                vec![Do::Search, Do::Get(11), Do::Search],
            ]
        });
        Self {
            settings: Settings {
                tick: "20ms",
                ..tight.settings
            },
            cold: vec![vec![3, 4, 10], vec![11, 12], vec![9, 4]],
            mortal: vec![6, 11],
            ..tight
        }
    }

    /// Four clients of three or four things each, drawn from the seed.
    pub(crate) fn anything_drawn() -> Self {
        Self {
            cold: vec![vec![3, 4], vec![5, 6], vec![2, 5]],
            ..Self::new("anything_drawn", |seed| {
                let mut rng = Rng::with_seed(seed ^ 0xd0);
                let client = |rng: &mut Rng| (0..rng.usize(3..5)).map(|_| drawn(rng)).collect();
                (0..4).map(|_| client(&mut rng)).collect()
            })
        }
    }
}

fn drawn(rng: &mut Rng) -> Do {
    let ids = |rng: &mut Rng| {
        let mut ids: Vec<u64> = (0..rng.usize(1..4)).map(|_| rng.u64(1..8)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    match rng.u8(..20) {
        0..4 => Do::Upsert(ids(rng)),
        4..6 => Do::Delete(ids(rng)),
        6..8 => Do::Get(rng.u64(1..8)),
        8 => Do::GetMany(ids(rng)),
        9..12 => Do::Search,
        12 => Do::SearchHot,
        13..15 => Do::Demote(ids(rng)),
        15..17 => Do::Promote(ids(rng)),
        17 => Do::Compact,
        18 => Do::GiveUp(Box::new(Do::Upsert(ids(rng)))),
        _ => Do::Tick,
    }
}
