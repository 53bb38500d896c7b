//! A search takes memory for its answer and for nothing else, once its thread has searched before; one that meets more rows than it has room
//! to mark takes more.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use aether_core::role::{HotIndex, SearchOptions};
use aether_core::{Metric, Row};
use aether_hot_hnsw::HnswConfig;
use aether_testkit::alloc::{Counting, takings_of};
use common::{blobs, one_thread, rows};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROWS: u64 = 4_000;

#[test]
fn a_search_takes_memory_for_its_answer_alone() {
    let odd = |row: Row| row.0 % 2 == 1;
    for (dim, bits) in [(64, 0), (64, 4), (96, 8), (33, 0)] {
        let mut rng = fastrand::Rng::with_seed(12);
        let all = blobs(&mut rng, ROWS as usize + 60, dim, 400);
        let (base, queries) = all.split_at(ROWS as usize * dim);
        for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
            let config = HnswConfig {
                code_bits: Some(bits),
                ..HnswConfig::default()
            };
            let index = one_thread(dim, metric, config);
            index.insert_batch(&rows(0..ROWS), base).unwrap();
            let plain = SearchOptions::default();
            let filtered = SearchOptions {
                filter: Some(&odd),
                ..SearchOptions::default()
            };
            let broad = SearchOptions {
                ef: Some(400),
                ..plain
            };
            for options in [plain, broad, filtered] {
                let search = |query| index.search(query, 10, &options).unwrap();
                let (first, others) = queries.split_at(30 * dim);
                first
                    .chunks_exact(dim)
                    .for_each(|query| drop(search(query)));
                for query in others.chunks_exact(dim) {
                    let (found, takings) = takings_of(|| search(query));
                    assert_eq!(
                        (found.len(), takings),
                        (10, 1),
                        "{metric:?}, {dim} dimensions, codes of {bits} bits, breadth {:?}, filtered: {}",
                        options.ef,
                        options.filter.is_some()
                    );
                }
            }
        }
    }
}
