//! Range reads.

use std::ops::Range;

use bytes::Bytes;

use super::{Harness, key, noise, wait};

/// Answers come in the order asked, whatever a store coalesces: near, far, overlapping, repeated, backwards.
pub fn ranges_come_in_the_order_asked(harness: &Harness) {
    const LEN: u64 = 3 << 20;
    let store = harness.fresh().open();
    wait(async {
        let bytes = noise(5, LEN as usize);
        let key = key("ranges");
        store.put(&key, bytes.clone()).await.expect("put");
        let mut cases: Vec<Vec<Range<u64>>> = vec![
            vec![],
            std::iter::once(0..LEN).collect(),
            vec![LEN - 1..LEN, 0..1],
            vec![100..200, 150..250, 100..200, 0..LEN, 199..200],
            vec![LEN - 10..LEN, 2_000_000..2_000_100, 10..20, 0..10, 20..30],
            (0..500)
                .map(|i| (499 - i) * 6000..(499 - i) * 6000 + 777)
                .collect(),
        ];
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..40 {
            let range = |r: &mut fastrand::Rng| {
                let start = r.u64(0..=LEN);
                let longest = if r.bool() { 300 } else { 300_000 };
                start..r.u64(start..=(start + longest).min(LEN))
            };
            let count = random.usize(1..12);
            cases.push((0..count).map(|_| range(&mut random)).collect());
        }
        for ranges in cases {
            let read = store.read(&key, &ranges).await.expect("read");
            let read = read.expect("the blob is there");
            assert_eq!(read.len(), ranges.len(), "answers for {ranges:?}");
            for (range, got) in ranges.iter().zip(read) {
                let expected = &bytes[range.start as usize..range.end as usize];
                assert!(got == expected, "{range:?} of {ranges:?}");
            }
        }
    });
}

/// An empty range gives empty bytes anywhere in the blob, at its end too.
pub fn empty_ranges_give_empty_bytes(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        let key = key("ranges");
        store.put(&key, noise(5, 100)).await.expect("put");
        for ranges in [vec![0..0], vec![50..50, 100..100], vec![100..100]] {
            let read = store.read(&key, &ranges).await.expect("read");
            assert_eq!(read, Some(vec![Bytes::new(); ranges.len()]), "{ranges:?}");
        }
        let read = store.read(&key, &[7..7, 0..100, 100..100]).await;
        let read = read.expect("read").expect("present");
        assert_eq!(read[1], noise(5, 100));
        assert!(read[0].is_empty() && read[2].is_empty());
    });
}

/// A range that is reversed or reaches beyond the end is `InvalidInput`, also among good ones; the message names the
/// range, and the blob's length when the range is beyond it.
pub fn bad_ranges_name_the_range_and_the_length(harness: &Harness) {
    let store = harness.fresh().open();
    wait(async {
        let key = key("ranges");
        store.put(&key, noise(5, 123)).await.expect("put");
        #[allow(clippy::reversed_empty_ranges, reason = "what is being tested")]
        let bad = [
            0..124,
            123..124,
            124..124,
            500..600,
            0..u64::MAX,
            u64::MAX..u64::MAX,
            u64::MAX - 1..u64::MAX,
            60..50,
            123..0,
            u64::MAX..0,
        ];
        for range in bad {
            for among in [vec![range.clone()], vec![0..5, range.clone(), 5..9]] {
                let error = store.read(&key, &among).await;
                let Err(error) = error else {
                    panic!("{range:?}: expected invalid input, got an answer");
                };
                assert!(error.is_invalid_input(), "{range:?}: {error:?}");
                let text = error.to_string();
                for number in [range.start, range.end] {
                    assert!(text.contains(&number.to_string()), "{range:?}: {text}");
                }
                assert!(text.contains("123"), "{range:?}: length in {text:?}");
            }
        }
        let good = store.read(&key, &[0..5, 120..123]).await.expect("read");
        assert_eq!(good.expect("present").len(), 2);
    });
}
