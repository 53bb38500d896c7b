//! The epochs of `hot-hnsw` under loom: every interleaving, and what weak memory may show.

use loom::sync::Arc;
use loom::thread;

use crate::loomed::epoch::Pins;
use crate::loomed::sync::{AtomicU64, Ordering::Relaxed};

const OLD: u64 = 1;
const NEW: u64 = 2;

/// Readers that find a row while a writer takes it out and writes over its place. Only the epochs order anything: all else is relaxed, as far
/// as memory allows. A planted mistake: the writer does not ask who still looks.
pub fn a_place_is_not_written_over_under_a_reader(readers: usize, planted: bool) {
    let pins = Arc::new(Pins::new());
    let linked = Arc::new(AtomicU64::new(1));
    let place = Arc::new(AtomicU64::new(OLD));
    let threads: Vec<_> = (0..readers)
        .map(|_| {
            let (pins, linked, place) = (pins.clone(), linked.clone(), place.clone());
            thread::spawn(move || {
                let pin = pins.pin();
                if linked.load(Relaxed) == 1 {
                    let found = place.load(Relaxed);
                    assert_eq!(found, OLD, "a place was written over under a reader");
                }
                drop(pin);
            })
        })
        .collect();
    linked.store(0, Relaxed);
    let epoch = pins.retire();
    if planted || epoch < pins.oldest() {
        place.store(NEW, Relaxed);
    }
    threads
        .into_iter()
        .for_each(|t| t.join().expect("a reader ended"));
}
