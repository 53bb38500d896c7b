use super::*;

/// A steer that knows its capacity, in rows of one byte.
fn steer(rows: u64) -> Steer {
    let mut steer = Steer::new(Trust::DEFAULT);
    steer.fit(1 << 20, rows as f64, rows as f64);
    steer
}

fn use_row(steer: &mut Steer, row: u64) {
    if steer.samples(Row(row)) {
        steer.used(Row(row), 1, 0.0, 1.0);
    }
}

/// The rule of a ghost, worked out by looking at everything.
struct Plain {
    setting: Setting,
    now: f64,
    worth: Vec<f32>,
    /// Rows that stay by recency, oldest first, and the others.
    recent: Vec<u16>,
    others: Vec<u16>,
}

impl Plain {
    /// Of rows that are worth the same, the one may leave that `stays` does not name.
    fn used(&mut self, row: u16, capacity: usize, stays: impl Fn(u16) -> bool) -> bool {
        self.now += 1.0 / (HALF_LIVES[self.setting.half_life] * capacity as f64);
        if self.now > REBASE {
            let off = self.now as f32;
            self.now = 0.0;
            self.worth.iter_mut().for_each(|worth| *worth -= off);
        }
        let worth = &mut self.worth[usize::from(row)];
        let count = (f64::from(*worth) - self.now).exp2();
        *worth = (self.now + (1.0 + count).log2()) as f32;
        let before = self.recent.len() + self.others.len();
        self.recent.retain(|other| *other != row);
        self.others.retain(|other| *other != row);
        let hit = self.recent.len() + self.others.len() < before;
        self.recent.push(row);
        loop {
            let rows = self.recent.len() + self.others.len();
            let most = (rows as f64 * self.setting.recent_share) as usize;
            if self.recent.len() > most || rows > capacity && self.others.is_empty() {
                self.others.push(self.recent.remove(0));
            } else if rows > capacity {
                let key = |at: &usize| {
                    let row = self.others[*at];
                    (self.worth[usize::from(row)], stays(row))
                };
                let before = |a: &usize, b: &usize| {
                    let (a, b) = (key(a), key(b));
                    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
                };
                let least = (0..self.others.len()).min_by(before);
                self.others.remove(least.unwrap());
            } else {
                return hit;
            }
        }
    }
}

/// Heaps, shared worths and shared recency answer as lists that are searched from end to end, under every setting.
#[test]
fn every_miniature_does_what_its_setting_says() {
    const CAPACITY: usize = 20;
    let mut steer = steer(CAPACITY as u64);
    let mut plain = SETTINGS.map(|setting| Plain {
        setting,
        now: 0.0,
        worth: vec![f32::NEG_INFINITY; 60],
        recent: Vec::new(),
        others: Vec::new(),
    });
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..20_000 {
        let row = random.u16(..60).min(random.u16(..60));
        assert!(steer.samples(Row(u64::from(row))));
        let slot = steer.slot_of(u64::from(row));
        let hits = steer.simulate(slot, 1, 0.0, CAPACITY as u64);
        for ((plain, ghost), hit) in plain.iter_mut().zip(&steer.ghosts).zip(hits) {
            let stays = |row: u16| {
                let slot = steer.sample.find(u64::from(row));
                slot.is_some_and(|slot| ghost.holds(slot))
            };
            assert_eq!(hit, plain.used(row, CAPACITY, stays), "{:?}", plain.setting);
        }
    }
}

/// Uses that recency alone foresees leave it in force; rows that are used again and again, but with scans in between that recency
/// cannot outlast, do not.
#[test]
fn recency_gives_way_only_to_what_is_better() {
    let mut steer = steer(100);
    let mut random = fastrand::Rng::with_seed(5);
    for n in 0..100_000_u64 {
        // A window of rows that moves on: what was used long ago never comes back.
        use_row(&mut steer, n / 50 + random.u64(..90));
    }
    assert!(steer.is_recency() && steer.changes == 0);
    for n in 0..40_000_u64 {
        let row = if n % 4 == 0 { random.u64(..60) } else { n };
        use_row(&mut steer, 1_000_000 + row);
    }
    assert!(!steer.is_recency());
    for n in 0..200_000_u64 {
        use_row(&mut steer, 2_000_000 + n / 50 + random.u64(..90));
    }
    assert!(steer.is_recency(), "it comes back to recency");
}

/// A setting that was ahead for long has a long lead. When the rows in use change and it loses to recency, that lead does not keep it in
/// force for as long as it took to gather.
#[test]
fn a_long_lead_does_not_outlast_what_it_was_gained_on() {
    let mut steer = steer(100);
    let mut random = fastrand::Rng::with_seed(6);
    for n in 0..400_000_u64 {
        let row = if n % 4 == 0 { random.u64(..60) } else { n };
        use_row(&mut steer, 1_000_000 + row);
    }
    assert!(!steer.is_recency());
    let lead = steer.over_recency[steer.current].sum;
    let mut uses = 0_u64;
    while !steer.is_recency() {
        use_row(&mut steer, 2_000_000 + uses / 50 + random.u64(..90));
        uses += 1;
        assert!((uses as f64) < lead / 2.0, "{uses} uses, a lead of {lead}");
    }
}

/// A tier of a thousand rows is tried on a part of them that keeps to its share, and the RAM to what was said.
#[test]
fn ram_follows_the_hot_rows_and_is_said_beforehand() {
    for hot in [0, 10, 100, 1_000, 100_000] {
        let mut steer = Steer::new(Trust::DEFAULT);
        let bound = steer.bytes_bound(hot);
        assert_eq!(steer.bytes(), 0);
        steer.fit(hot, 100_000.0, 100_000.0);
        for row in 0..200_000 {
            use_row(&mut steer, row);
        }
        assert!(steer.bytes() > 0 && steer.bytes() <= bound);
        assert!(steer.bytes_bound(hot) <= bound);
        let most = 74_000 + (hot * 140).min(1_076_000);
        assert!(bound <= most, "{hot} rows: {bound} bytes");
        steer.fit(1, 1.0, 1.0);
        use_row(&mut steer, 1);
        assert!(steer.bytes() <= Steer::new(Trust::DEFAULT).bytes_bound(1));
    }
}

/// What is saved and taken up goes on as if nothing had happened, rows that are gone included.
#[test]
fn it_goes_on_where_it_was_saved() {
    let mut steer = steer(300);
    let mut random = fastrand::Rng::with_seed(9);
    for n in 0..30_000_u64 {
        use_row(&mut steer, random.u64(..2_000).min(random.u64(..2_000)));
        if n % 97 == 0 {
            steer.gone(Row(random.u64(..2_000)));
        }
    }
    let mut saved = Vec::new();
    steer.save(&mut saved);
    let mut other = Steer::new(Trust::DEFAULT);
    let mut input = Input(&saved);
    other.load(&mut input).unwrap();
    assert!(input.0.is_empty());
    for _ in 0..30_000 {
        let row = random.u64(..2_000);
        use_row(&mut steer, row);
        use_row(&mut other, row);
        assert_eq!(steer.current, other.current);
    }
    let states = [steer, other].map(|steer| {
        let mut state = Vec::new();
        steer.save(&mut state);
        state
    });
    assert!(states[0] == states[1]);
    for (at, what) in [(0, 13_u8), (1, 255), (9, 0xff), (saved.len() - 1, 0xff)] {
        let mut damaged = saved.clone();
        damaged[at] = what;
        damaged.truncate(saved.len() - usize::from(at == 9));
        assert!(
            Steer::new(Trust::DEFAULT)
                .load(&mut Input(&damaged))
                .is_err(),
            "{at}"
        );
    }
}
