//! Flips the bits of one file, one after the other, and counts what became of them.

use std::any::Any;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

/// What becomes of a file with a bit turned over, or what is wrong.
pub(crate) type Probed = Result<Found, String>;

/// How a flipped bit came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing was opened: an error said why.
    Refused,
    /// Opened, and an error or a mark on an answer said that something is missing.
    Marked,
    /// All answers are as before, and `check` says that something is wrong.
    ByCheck,
    /// All answers are as before.
    Harmless,
}

/// What became of the bits of one kind of file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Swept {
    pub(crate) bytes: u64,
    pub(crate) flipped: u64,
    pub(crate) refused: u64,
    pub(crate) marked: u64,
    pub(crate) by_check: u64,
    pub(crate) harmless: u64,
    /// Byte, bit and what was wrong.
    wrong: Vec<(usize, usize, String)>,
}

impl Swept {
    fn note(&mut self, at: usize, bit: usize, probed: Probed) {
        self.flipped += 1;
        match probed {
            Ok(Found::Refused) => self.refused += 1,
            Ok(Found::Marked) => self.marked += 1,
            Ok(Found::ByCheck) => self.by_check += 1,
            Ok(Found::Harmless) => self.harmless += 1,
            Err(what) => self.wrong.push((at, bit, what)),
        }
    }

    /// Adds what became of another part of the same kind.
    pub(crate) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.flipped += other.flipped;
        self.refused += other.refused;
        self.marked += other.marked;
        self.by_check += other.by_check;
        self.harmless += other.harmless;
        self.wrong.extend(other.wrong);
    }

    /// Says what became of the bits.
    ///
    /// # Panics
    /// When any flip gave a wrong answer or a panic: the message has the first of them.
    pub(crate) fn judge(&self, kind: &str) {
        let wrong = self.wrong.len();
        println!(
            "{kind}: {} of {} bits in {} bytes flipped: {} refused, {} marked, {} found by check alone, {} harmless, {wrong} wrong",
            self.flipped,
            self.bytes * 8,
            self.bytes,
            self.refused,
            self.marked,
            self.by_check,
            self.harmless,
        );
        // Workers come to them in any order.
        let mut all: Vec<_> = self.wrong.iter().collect();
        all.sort_unstable();
        let first: Vec<_> = (all.iter().take(10))
            .map(|(at, bit, what)| format!("bit {bit} of byte {at}: {what}"))
            .collect();
        assert!(wrong == 0, "{kind}: {wrong} wrong: {first:#?}");
    }
}

fn number(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
    )
}

/// Bytes that a kind's sample has, where its files have so many.
pub(crate) fn sample_bytes() -> usize {
    number("AETHER_FLIPS_KIB").unwrap_or(4) << 10
}

/// So many places of a file, or all, evenly spread.
pub(crate) fn spread(places: &[usize], most: usize) -> Vec<usize> {
    let n = places.len().min(most);
    (0..n).map(|i| places[i * places.len() / n]).collect()
}

const WORKER: &str = "flips";

/// What a probe's panic says is in the report; that of each of thousands, which stores contain, would fill the screen.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            let own = |name: &str| {
                [WORKER, "meta-redb", "tokio"]
                    .iter()
                    .any(|n| name.starts_with(n))
            };
            if !thread::current().name().is_some_and(own) {
                usual(info);
            }
        }));
    });
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a panic: {}", text.unwrap_or("of another kind"))
}

/// Flips about `most` bits of the given bytes, evenly spread over them and over the places in a byte; `AETHER_FLIPS` says another number. As many
/// workers as there are processors share them, each with a probe of its own.
///
/// # Panics
/// When the unharmed bytes are not harmless.
pub(crate) fn sweep<P: Fn(&[u8]) -> Probed>(
    good: &[u8],
    bytes: &[usize],
    most: usize,
    begin: impl Fn() -> P + Sync,
) -> Swept {
    quiet();
    let bits = bytes.len() * 8;
    // An odd step meets every place in a byte.
    let step = match bits.div_ceil(number("AETHER_FLIPS").unwrap_or(most).max(1)) {
        0 | 1 => 1,
        more => more | 1,
    };
    let next = AtomicUsize::new(0);
    let work = || {
        let probe = begin();
        assert_eq!(probe(good), Ok(Found::Harmless), "the good bytes");
        let (mut swept, mut bad) = (Swept::default(), good.to_vec());
        loop {
            let bit = next.fetch_add(step, Relaxed);
            let Some(at) = bytes.get(bit / 8).copied() else {
                return swept;
            };
            bad[at] ^= 1 << (bit % 8);
            let probed = catch_unwind(AssertUnwindSafe(|| probe(&bad)));
            bad[at] ^= 1 << (bit % 8);
            swept.note(at, bit % 8, probed.unwrap_or_else(|p| Err(said(&*p))));
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let mut all = Swept {
        bytes: bytes.len() as u64,
        ..Swept::default()
    };
    thread::scope(|scope| {
        let start = |_| {
            let named = thread::Builder::new().name(WORKER.to_owned());
            named.spawn_scoped(scope, work).unwrap()
        };
        let workers: Vec<_> = (0..workers).map(start).collect();
        for worker in workers {
            let swept = worker.join();
            all.add(swept.unwrap_or_else(|panic| panic!("{}", said(&*panic))));
        }
    });
    all
}
