use super::super::limits::{Belady, BeladySize};
use super::super::reader::Request;
use super::*;

/// First in, first out, by hand: what the rules of the replay do is seen plainly.
#[derive(Debug, Default)]
struct Queue {
    rows: Vec<Row>,
    told: Vec<String>,
    /// What candidates are worth; `None` refuses all.
    candidate: Option<f64>,
    certain: bool,
    lies: bool,
}

impl Subject for Queue {
    fn hit(&mut self, row: Row, _: u64, _: &Context) {
        self.told.push(format!("hit {row}"));
    }
    fn missed(&mut self, item: &Item, _: u64, _: &Context) -> Option<Verdict> {
        self.told.push(format!("missed {}", item.row));
        self.candidate.map(|keep| Verdict {
            row: item.row,
            keep,
            certain: self.certain,
            reason: "",
        })
    }
    fn victim(&mut self, _: u64, _: &Context) -> Option<Verdict> {
        let row = if self.lies {
            Row(99)
        } else {
            *self.rows.first()?
        };
        Some(Verdict {
            row,
            keep: 1.0,
            certain: false,
            reason: "",
        })
    }
    fn left(&mut self, item: &Item, _: &Context) {
        self.told.push(format!("left {}", item.row));
        self.rows.retain(|r| *r != item.row);
    }
    fn entered(&mut self, item: &Item, _: u64, context: &Context) {
        assert!(context.hot_bytes <= context.budget_bytes);
        self.told.push(format!("entered {}", item.row));
        self.rows.push(item.row);
    }
    fn judged(&mut self, row: Row, reward: f32, _: &Context) {
        self.told.push(format!("judged {row} {reward}"));
    }
    fn len(&self) -> usize {
        self.rows.len()
    }
    fn bytes(&self) -> u64 {
        8 * self.rows.len() as u64
    }
}

fn trace(requests: &[(u64, u32)]) -> Trace {
    let request = |(time, (key, size)): (usize, &(u64, u32))| Request {
        time: time as u64,
        key: *key,
        size: *size,
        write: false,
        importance: None,
    };
    Trace::from_requests("t", requests.iter().enumerate().map(request)).unwrap()
}

fn setup(capacity: u64, by_bytes: bool) -> Setup {
    Setup {
        capacity,
        by_bytes,
        unit_us: 1,
        retrievals: false,
    }
}

fn run<S: Subject>(subject: &mut S, trace: &Trace, setup: Setup) -> Result<Tally> {
    replay(subject, "queue", trace, setup, true, &|_| Ok(()))
}

#[test]
fn a_miss_makes_room_before_it_enters() {
    let mut queue = Queue {
        candidate: Some(0.0),
        certain: true,
        ..Queue::default()
    };
    let tally = run(
        &mut queue,
        &trace(&[(1, 1), (2, 1), (1, 1), (3, 1)]),
        setup(2, false),
    )
    .unwrap();
    let told = [
        "missed 0",
        "entered 0",
        "missed 1",
        "entered 1",
        "hit 0",
        "missed 2",
        "left 0",
        "entered 2",
    ];
    assert_eq!(queue.told, told);
    assert_eq!((tally.misses, tally.promoted, tally.demoted), (3, 3, 1));
    assert_eq!(tally.object_miss_ratio(), 0.75);
    assert_eq!(tally.moves_per_access(), 1.0);
    assert_eq!(tally.metadata_bytes_per_item(), 8.0);
}

#[test]
fn a_candidate_worth_less_than_the_victim_stays_out_unless_there_is_room() {
    let mut queue = Queue {
        candidate: Some(0.5),
        ..Queue::default()
    };
    let tally = run(
        &mut queue,
        &trace(&[(1, 1), (2, 1), (2, 1)]),
        setup(1, false),
    )
    .unwrap();
    assert_eq!(queue.rows, [Row(0)]);
    assert_eq!((tally.misses, tally.promoted, tally.demoted), (3, 1, 0));
    let mut refusing = Queue::default();
    let tally = run(&mut refusing, &trace(&[(1, 1), (1, 1)]), setup(1, false)).unwrap();
    assert_eq!((tally.misses, tally.promoted), (2, 0));
}

#[test]
fn with_bytes_as_many_leave_as_it_takes_and_what_is_too_large_stays_out() {
    let mut queue = Queue {
        candidate: Some(0.0),
        certain: true,
        ..Queue::default()
    };
    let requests = [(1, 3), (2, 4), (3, 3), (4, 7), (5, 11), (4, 7)];
    let tally = run(&mut queue, &trace(&requests), setup(10, true)).unwrap();
    assert_eq!(queue.rows, [Row(2), Row(3)]);
    assert_eq!((tally.misses, tally.too_large, tally.demoted), (5, 1, 2));
    assert_eq!((tally.bytes, tally.missed_bytes), (35, 28));
    // Counted in rows the same trace fits.
    let tally = run(
        &mut Queue {
            candidate: Some(0.0),
            certain: true,
            ..Queue::default()
        },
        &trace(&requests),
        setup(5, false),
    );
    assert_eq!(tally.unwrap().missed_bytes, 28);
}

#[test]
fn a_victim_that_is_not_hot_ends_the_replay_with_the_policys_name() {
    let mut queue = Queue {
        candidate: Some(0.0),
        certain: true,
        lies: true,
        ..Queue::default()
    };
    let error = run(&mut queue, &trace(&[(1, 1), (2, 1)]), setup(1, false)).unwrap_err();
    assert!(
        error.to_string().contains("policy queue: request 2"),
        "{error}"
    );
}

#[test]
fn importance_is_told_after_the_access_and_weighed() {
    let request = |time, key, importance| Request {
        time,
        key,
        size: 1,
        write: false,
        importance: Some(importance),
    };
    let requests = [request(0, 1, 10), request(1, 1, 5), request(2, 2, 5)];
    let trace = Trace::from_requests("t", requests).unwrap();
    let mut queue = Queue {
        candidate: Some(0.0),
        ..Queue::default()
    };
    let tally = run(&mut queue, &trace, setup(1, false)).unwrap();
    let told = [
        "missed 0",
        "entered 0",
        "judged 0 1",
        "hit 0",
        "judged 0 0.5",
        "missed 1",
        "judged 1 0.5",
    ];
    assert_eq!(queue.told, told);
    assert_eq!(tally.importance_miss_ratio(), Some(0.75));
}

#[test]
fn belady_does_what_the_paper_does_by_hand() {
    // Three frames and the reference string of many textbooks: nine faults where FIFO has fifteen and LRU twelve.
    let string = [7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1];
    let trace = trace(&string.map(|k| (k, 1)));
    let keys = trace.keys() as usize;
    let belady = run(&mut Belady::new(keys), &trace, setup(3, false)).unwrap();
    assert_eq!(belady.misses, 9);
    let mut fifo = Queue {
        candidate: Some(0.0),
        certain: true,
        ..Queue::default()
    };
    assert_eq!(run(&mut fifo, &trace, setup(3, false)).unwrap().misses, 15);
}

#[test]
fn belady_size_prefers_many_small_rows_to_a_large_one() {
    // One row of 8 and four of 2 take turns in 8 bytes: keeping the small ones misses the large one only.
    let round = [(9, 8), (1, 2), (2, 2), (3, 2), (4, 2)];
    let requests: Vec<(u64, u32)> = round.iter().cycle().take(200).copied().collect();
    let trace = trace(&requests);
    let keys = trace.keys() as usize;
    let by_distance = run(&mut Belady::new(keys), &trace, setup(8, true)).unwrap();
    let mut limit = BeladySize::new(keys, 1);
    let by_size = run(&mut limit, &trace, setup(8, true)).unwrap();
    assert!(
        by_size.misses < by_distance.misses,
        "{by_size:?} {by_distance:?}"
    );
    assert!(limit.len() <= 4);
}

#[test]
fn rows_of_equal_time_are_one_retrieval_and_wishes_are_weighed_and_granted() {
    /// Wishes for row 3 after every retrieval.
    #[derive(Debug, Default)]
    struct Wishing(Queue);
    impl Subject for Wishing {
        fn hit(&mut self, row: Row, next: u64, context: &Context) {
            self.0.hit(row, next, context);
        }
        fn missed(&mut self, item: &Item, next: u64, context: &Context) -> Option<Verdict> {
            self.0.missed(item, next, context)
        }
        fn victim(&mut self, bytes: u64, context: &Context) -> Option<Verdict> {
            self.0.victim(bytes, context)
        }
        fn left(&mut self, item: &Item, context: &Context) {
            self.0.left(item, context);
        }
        fn entered(&mut self, item: &Item, next: u64, context: &Context) {
            self.0.entered(item, next, context);
        }
        fn judged(&mut self, _: Row, _: f32, _: &Context) {}
        fn together(&mut self, rows: &[Row], _: &Context) {
            let rows: Vec<u64> = rows.iter().map(|r| r.0).collect();
            self.0.told.push(format!("together {rows:?}"));
        }
        fn wishes(&mut self, _: usize, _: &Context) -> Vec<Verdict> {
            vec![Verdict {
                row: Row(3),
                keep: 2.0,
                certain: false,
                reason: "",
            }]
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn bytes(&self) -> u64 {
            0
        }
    }
    let request = |(time, key)| Request {
        time,
        key,
        size: 1,
        write: false,
        importance: None,
    };
    let requests = [(0, 10), (0, 11), (1, 12), (2, 13), (2, 10)].map(request);
    let trace = Trace::from_requests("t", requests).unwrap();
    let mut wishing = Wishing(Queue {
        candidate: Some(0.0),
        certain: true,
        ..Queue::default()
    });
    let setup = Setup {
        retrievals: true,
        ..setup(2, false)
    };
    let tally = run(&mut wishing, &trace, setup).unwrap();
    let told = [
        "missed 0",
        "entered 0",
        "missed 1",
        "entered 1",
        "together [0, 1]",
        "left 0",
        "entered 3",
        "missed 2",
        "left 1",
        "entered 2",
        "hit 3",
        "missed 0",
        "left 3",
        "entered 0",
        // Row 3 had left again before this retrieval ended.
        "together [3, 0]",
        "left 2",
        "entered 3",
    ];
    assert_eq!(wishing.0.told, told);
    assert_eq!((tally.wished, tally.wished_used, tally.promoted), (2, 1, 6));
}
