use std::collections::BTreeMap;

use super::*;

fn check(books: &Books<Stamp>, model: &BTreeMap<u64, (u32, bool)>) {
    assert_eq!(books.len(), model.len());
    let free = model.values().filter(|(_, pinned)| !pinned).count();
    assert_eq!(books.free() as usize, free);
    for (row, (weight, pinned)) in model {
        let slot = books.find(Row(*row)).unwrap();
        assert_eq!(books.row(slot), Row(*row));
        assert_eq!((books.weight(slot), books.pinned(slot)), (*weight, *pinned));
    }
}

#[test]
fn books_agree_with_a_map_over_random_changes() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut books = Books::<Stamp>::new(1);
    let mut model = BTreeMap::new();
    for step in 0..30_000_u64 {
        let row = random.u64(..400);
        match (books.find(Row(row)), random.u8(..6)) {
            (None, 0..4) => {
                let weight = random.u32(..1 << 20);
                let slot = books.insert(Row(row), weight, Stamp::default()).unwrap();
                books.push_back(0, slot);
                model.insert(row, (weight, false));
            }
            (None, _) => {}
            (Some(slot), 0) => {
                books.remove(slot);
                model.remove(&row);
            }
            (Some(slot), 1) => {
                let pinned = !books.pinned(slot);
                let slot = books.set_pinned(slot, pinned);
                books.push_back(0, slot);
                model.get_mut(&row).unwrap().1 = pinned;
            }
            (Some(slot), 2) => {
                let to = 1_000 + step;
                books.rename(slot, Row(to));
                books.rename(slot, Row(row));
                assert_eq!(books.find(Row(to)), None);
            }
            (Some(slot), _) => books.push_back(0, slot),
        }
        let listed: Vec<u32> = books.list(0).collect();
        assert_eq!(listed.len(), books.free() as usize);
        if step % 500 == 0 {
            check(&books, &model);
            assert!(listed.iter().all(|slot| !books.pinned(*slot)));
        }
    }
    check(&books, &model);
}

/// Under steady coming and going nothing is left behind that would make the buckets grow.
#[test]
fn coming_and_going_does_not_make_the_table_grow() {
    for rows in [100_u64, 1_000, 13_000, 14_000, 20_000] {
        let mut books = Books::<Stamp>::new(1);
        let bound = books.bytes_bound(rows);
        for row in 0..rows * 20 {
            if row >= rows {
                let slot = books.find(Row(row - rows)).unwrap();
                books.remove(slot);
            }
            books.insert(Row(row), 1, Stamp::default()).unwrap();
            assert!(books.bytes() <= bound, "{rows} rows, row {row}");
            assert!(books.bytes() <= books.bytes_bound(books.len() as u64));
        }
        let buckets = books.buckets.bytes() as f64 / rows as f64;
        assert!(
            rows < 1_000 || buckets <= 6.5,
            "{rows} rows: {buckets} bytes each"
        );
    }
}

#[test]
fn books_that_emptied_give_their_memory_back() {
    let mut books = Books::<Stamp>::new(1);
    for row in 0..50_000 {
        books.insert(Row(row), 1, Stamp::default()).unwrap();
    }
    for row in 0..49_990 {
        let slot = books.find(Row(row)).unwrap();
        books.remove(slot);
    }
    assert_eq!(books.len(), 10);
    assert!(books.bytes() < 30_000, "{}", books.bytes());
}
