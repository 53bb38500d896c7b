use super::*;

fn rows(rows: &[u64]) -> Vec<Row> {
    rows.iter().map(|row| Row(*row)).collect()
}

/// Row 1 was retrieved twice before, once beside 2 and 3 and once beside 3 and 4; row 5 never. So of the search for 1 and 5, row 3 is
/// expected by all retrievals of one row in two.
#[test]
fn expectations_are_shares_of_former_retrievals() {
    let mut together = Together::new(0.1);
    together.heard(&rows(&[1, 2, 3]), 100, |_| true);
    together.heard(&rows(&[3, 1, 4]), 100, |_| true);
    let found = together.expectations(&rows(&[1, 5]));
    assert_eq!(found, [(2, 0.25), (3, 0.5), (4, 0.25)]);
}

#[test]
fn cold_rows_are_wished_for_at_no_more_than_the_rate() {
    let mut together = Together::new(0.1);
    for _ in 0..10 {
        together.heard(&rows(&[1, 2, 3]), 100, |_| true);
    }
    let cold = |row: Row| row.0 != 3;
    together.heard(&rows(&[1, 2]), 100, cold);
    assert!(together.wishes(9, cold).is_empty(), "nothing was used");
    (0..11).for_each(|_| together.used());
    together.heard(&rows(&[1, 2]), 100, cold);
    let wishes = together.wishes(9, cold);
    assert_eq!(wishes.len(), 1);
    assert!(wishes[0].0 == Row(3) && wishes[0].1 > 0.5, "{wishes:?}");
    together.heard(&rows(&[1, 2]), 100, cold);
    assert!(together.wishes(9, cold).is_empty(), "one in ten uses");
    (0..20).for_each(|_| together.used());
    together.gone(Row(3));
    together.heard(&rows(&[1, 2]), 100, cold);
    assert!(together.wishes(9, cold).is_empty(), "the row is gone");
}

/// Wishes that nobody uses make it ask for more certainty, those that are used for less.
#[test]
fn the_threshold_learns_from_what_became_of_wishes() {
    for useful in [true, false] {
        let mut together = Together::new(1.0);
        let cold = |row: Row| row.0 % 10 != 9;
        for round in 0..200_u64 {
            let at = round % 20 * 10;
            together.heard(&rows(&[at, at + 1, at + 9]), 100, |_| true);
        }
        let before = together.threshold;
        for round in 0..2_000_u64 {
            let at = round % 20 * 10;
            together.used();
            together.heard(&rows(&[at, at + 1]), 100, cold);
            let wished = together.wishes(9, cold);
            for (row, _) in wished {
                assert!(together.entered(row), "{row} was wished for");
                match useful {
                    true => together.heard(&[row, Row(at)], 100, |_| true),
                    false => together.left(row),
                }
                assert!(together.watched.is_empty(), "{row}: its outcome is known");
            }
        }
        let after = together.threshold;
        assert!((after < before) == useful, "{useful}: {before} to {after}");
    }
}

/// Where wishes were of no use it makes none, but tries again now and then.
#[test]
fn useless_wishes_come_to_an_end_and_are_tried_again() {
    let mut together = Together::new(1.0);
    let cold = |row: Row| row.0 != 3;
    together.heard(&rows(&[1, 2, 3]), 100, |_| true);
    let mut made = Vec::new();
    for _ in 0..20_000 {
        together.used();
        together.heard(&rows(&[1, 2]), 100, cold);
        let wished = together.wishes(9, cold);
        made.push(wished.len());
        for (row, _) in wished {
            together.entered(row);
            together.left(row);
        }
    }
    let [first, last] = [&made[..500], &made[15_000..]].map(|made| made.iter().sum::<usize>());
    assert!(first > 100 && (10..500).contains(&last), "{first} {last}");
}

/// The ring grows with the hot rows, to what was said, and what it forgets leads nowhere.
#[test]
fn it_is_bounded_and_forgets_the_oldest() {
    for hot in [0, 100, 100_000] {
        let mut together = Together::new(0.1);
        let bound = together.bytes_bound(hot);
        for n in 0..100_000_u64 {
            together.heard(&rows(&[2 * n, 2 * n + 1]), hot, |_| false);
        }
        assert!(together.bytes() <= bound, "{} {bound}", together.bytes());
        assert_eq!(together.rows.len(), mentions_for(hot));
        assert!(together.expectations(&rows(&[0])).is_empty());
        assert_eq!(together.expectations(&rows(&[199_998])), [(199_999, 1.0)]);
        let mut saved = Vec::new();
        together.save(&mut saved);
        let mut other = Together::new(0.1);
        other.load(&mut Input(&saved)).unwrap();
        assert_eq!(other.expectations(&rows(&[199_998])), [(199_999, 1.0)]);
        let mut again = Vec::new();
        other.save(&mut again);
        assert!(saved == again);
    }
}
