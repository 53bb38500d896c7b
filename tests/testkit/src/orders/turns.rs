//! One thing at a time, in an order that a seed draws.
//!
//! Whoever comes to a moment at which another may go first waits for its turn. When all wait, one of them is drawn and goes on until it
//! comes to the next such moment. Two ways to draw: anyone, each time; or by priorities, of which few change, which finds mistakes that
//! need few changes of the order with a chance that is known (Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of
//! Finding Bugs", ASPLOS 2010, section 2; the way of the crate `shuttle` too). Here threads are tasks, and steps are turns.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::{self, JoinHandle};

/// Between two turns, so that a timer that is due goes off.
const TURN: Duration = Duration::from_millis(1);
/// When nobody has come for a turn for so long, nobody will.
const STUCK: Duration = Duration::from_secs(3_600);
/// No schedule of a small scenario is longer.
const TURNS_MAX: u64 = 50_000;
/// Changes of priority at most.
const DEPTH_MAX: u64 = 4;

/// The tasks do not end: who waits for what, as far as it is known.
#[derive(Clone, Debug)]
pub struct Stuck(String);

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug)]
enum Way {
    /// Anyone who waits.
    Walk,
    /// Who has the highest priority; at these turns, soonest last, who has just been drawn falls below all others.
    Priorities { falls: Vec<u64>, lowest: u64 },
}

#[derive(Debug)]
struct Waiting {
    actor: usize,
    what: &'static str,
    go: oneshot::Sender<()>,
}

struct State {
    rng: Rng,
    way: Way,
    waiting: Vec<Waiting>,
    actors: HashMap<task::Id, usize>,
    priorities: Vec<u64>,
    turns: u64,
    /// A switch of actors is a turn of another than the last.
    last: usize,
    switches: u64,
    free: bool,
    trace: DefaultHasher,
    words: Option<Vec<String>>,
}

/// Who goes on: a clone decides for the same tasks.
#[derive(Clone)]
pub struct Turns(Arc<Mutex<State>>);

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Turns")
            .field("way", &state.way)
            .field("turns", &state.turns)
            .finish_non_exhaustive()
    }
}

impl Turns {
    /// Turns as a seed draws them, of which about so many are expected. Until [`Turns::play`] nobody waits.
    pub fn new(seed: u64, expected: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Half of the seeds walk; the others have one to four mistakes' worth of falls.
        let way = if seed.is_multiple_of(2) {
            Way::Walk
        } else {
            let falls = rng.u64(0..DEPTH_MAX);
            let mut falls: Vec<u64> = (0..falls).map(|_| rng.u64(0..expected.max(1))).collect();
            falls.sort_unstable_by(|a, b| b.cmp(a));
            Way::Priorities {
                falls,
                lowest: 1 << 32,
            }
        };
        Self(Arc::new(Mutex::new(State {
            rng,
            way,
            waiting: Vec::new(),
            actors: HashMap::new(),
            priorities: Vec::new(),
            turns: 0,
            last: usize::MAX,
            switches: 0,
            free: true,
            trace: DefaultHasher::new(),
            words: None,
        })))
    }

    /// Keeps every turn in words, for [`Turns::words`].
    pub fn keep_words(&self) {
        self.0.lock().words = Some(Vec::new());
    }

    /// The turns so far, if they were kept.
    pub fn words(&self) -> Vec<String> {
        self.0.lock().words.clone().unwrap_or_default()
    }

    /// How many turns there were, and how many of them went to another task than the turn before.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.turns, state.switches)
    }

    /// A fingerprint of everything so far, in order.
    pub fn trace(&self) -> u64 {
        self.0.lock().trace.finish()
    }

    /// Takes something into the fingerprint.
    pub fn note(&self, what: impl Hash + fmt::Debug) {
        let mut state = self.0.lock();
        what.hash(&mut state.trace);
        if let Some(words) = &mut state.words {
            words.push(format!("{what:?}"));
        }
    }

    /// Waits until it is this task's turn.
    pub async fn turn(&self, what: &'static str) {
        let wait = {
            let mut state = self.0.lock();
            if state.free {
                return;
            }
            let actor = state.actor();
            let (go, wait) = oneshot::channel();
            state.waiting.push(Waiting { actor, what, go });
            wait
        };
        // Whoever is let go by everyone's release goes on too.
        drop(wait.await);
    }

    /// From now on nobody waits.
    pub fn release(&self) {
        let mut state = self.0.lock();
        state.free = true;
        state.waiting.clear();
    }

    /// Gives turns until all tasks have ended, or `until` says so, which it is asked before each turn with its number. Then nobody waits any more.
    ///
    /// # Errors
    /// When they do not end.
    pub async fn play<T>(
        &self,
        tasks: &[JoinHandle<T>],
        mut until: impl FnMut(u64) -> bool,
    ) -> Result<(), Stuck> {
        let mut pause = TURN;
        let mut idle = Duration::ZERO;
        let played = loop {
            // Ends only when nobody can go on without a turn or a later time.
            tokio::time::sleep(pause).await;
            if tasks.iter().all(JoinHandle::is_finished) {
                break Ok(());
            }
            if until(self.0.lock().turns) {
                break Ok(());
            }
            if self.give() {
                (pause, idle) = (TURN, Duration::ZERO);
                if self.0.lock().turns > TURNS_MAX {
                    break Err(Stuck(format!("no end after {TURNS_MAX} turns")));
                }
                continue;
            }
            idle += pause;
            pause *= 2;
            if idle > STUCK {
                let running = tasks.iter().map(|t| !t.is_finished());
                let running: Vec<bool> = running.collect();
                break Err(Stuck(format!(
                    "nobody wants a turn, and these tasks still run: {running:?}"
                )));
            }
        };
        self.release();
        played
    }

    /// From now on everyone waits for a turn.
    pub fn hold(&self) {
        self.0.lock().free = false;
    }

    /// Gives one turn; `false` when nobody waits.
    fn give(&self) -> bool {
        let mut state = self.0.lock();
        let state = &mut *state;
        loop {
            // Who gave up waiting is gone.
            state.waiting.retain(|w| !w.go.is_closed());
            if state.waiting.is_empty() {
                return false;
            }
            let place = state.draw();
            let next = state.waiting.swap_remove(place);
            if next.go.send(()).is_err() {
                continue;
            }
            (next.actor, next.what).hash(&mut state.trace);
            if let Some(words) = &mut state.words {
                words.push(format!("{}: {}", next.actor, next.what));
            }
            state.turns += 1;
            state.switches += u64::from(state.last != next.actor);
            state.last = next.actor;
            return true;
        }
    }
}

impl State {
    /// The number of this task, in the order in which they first came.
    fn actor(&mut self) -> usize {
        let next = self.priorities.len();
        let actor = match task::try_id() {
            Some(id) => *self.actors.entry(id).or_insert(next),
            None => 0,
        };
        if actor == next {
            self.priorities.push(self.rng.u64((1 << 32) + 1..));
        }
        actor
    }

    fn draw(&mut self) -> usize {
        // In an order that does not depend on who came first.
        self.waiting.sort_by_key(|w| w.actor);
        let Way::Priorities { falls, lowest } = &mut self.way else {
            return self.rng.usize(..self.waiting.len());
        };
        let priorities = &self.priorities;
        let highest = |waiting: &[Waiting]| waiting.iter().map(|w| priorities[w.actor]).max();
        let mut top = highest(&self.waiting);
        if falls.pop_if(|at| *at <= self.turns).is_some() {
            *lowest -= 1;
            let fallen = self
                .waiting
                .iter()
                .find(|w| Some(priorities[w.actor]) == top);
            if let Some(fallen) = fallen {
                self.priorities[fallen.actor] = *lowest;
            }
            let priorities = &self.priorities;
            top = self.waiting.iter().map(|w| priorities[w.actor]).max();
        }
        let priorities = &self.priorities;
        // One task may wait for several turns at once.
        let places =
            (0..self.waiting.len()).filter(|i| Some(priorities[self.waiting[*i].actor]) == top);
        let places: Vec<usize> = places.collect();
        places[self.rng.usize(..places.len())]
    }
}

/// Runs one schedule: one thread, so that nothing happens at the same time, and time that passes only when all wait for it.
///
/// # Panics
/// When no runtime can be built.
pub fn alone<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread")
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The order in which two tasks of two steps each go.
    fn order(seed: u64) -> (String, u64) {
        alone(async {
            let turns = Turns::new(seed, 4);
            let said = Arc::new(Mutex::new(String::new()));
            turns.hold();
            let tasks: Vec<_> = ['a', 'b']
                .into_iter()
                .map(|name| {
                    let (turns, said) = (turns.clone(), said.clone());
                    task::spawn(async move {
                        for _ in 0..2 {
                            turns.turn("step").await;
                            said.lock().push(name);
                        }
                    })
                })
                .collect();
            turns.play(&tasks, |_| false).await.unwrap();
            let said = said.lock().clone();
            (said, turns.trace())
        })
    }

    #[test]
    fn all_orders_of_two_short_tasks_are_found_both_ways_and_a_seed_repeats_its_own() {
        for parity in [0, 1] {
            let seeds = (0..200).map(|n| n * 2 + parity);
            let orders: BTreeSet<String> = seeds.map(|seed| order(seed).0).collect();
            let all = ["aabb", "abab", "abba", "baab", "baba", "bbaa"];
            assert_eq!(orders, all.map(str::to_owned).into());
        }
        for seed in 0..20 {
            assert_eq!(order(seed), order(seed));
        }
    }

    #[test]
    fn tasks_that_wait_for_each_other_are_stuck() {
        alone(async {
            let turns = Turns::new(1, 4);
            turns.hold();
            let never = task::spawn(std::future::pending::<()>());
            let stuck = turns.play(&[never], |_| false).await.unwrap_err();
            assert!(stuck.to_string().contains("[true]"), "{stuck}");
        });
    }
}
