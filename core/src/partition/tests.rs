use super::*;

fn blobs(rng: &mut fastrand::Rng, blobs: usize, rows: usize, dim: usize) -> Vec<Vec<f32>> {
    let centres: Vec<f32> = (0..blobs * dim).map(|_| rng.f32() * 20.0 - 10.0).collect();
    let row = |i: usize| {
        let c = (i % blobs) * dim;
        let centre = centres[c..c + dim].iter();
        centre.map(|x| x + rng.f32()).collect::<Vec<_>>()
    };
    (0..rows).map(row).collect()
}

fn refs(rows: &[Vec<f32>]) -> Vec<&[f32]> {
    rows.iter().map(Vec::as_slice).collect()
}

fn numbered(first: u32, centroids: Vec<Vec<f32>>) -> Vec<Partition> {
    let partition = |(number, centroid)| Partition {
        number,
        retired: false,
        centroid,
    };
    (first..).zip(centroids).map(partition).collect()
}

fn trained(metric: Metric, data: &[Vec<f32>], k: usize) -> Partitions {
    let none = Partitions::new(data[0].len(), metric);
    let made = numbered(5, none.train(&refs(data), k, 7));
    none.changed(&made, &BTreeSet::new(), &BTreeSet::new())
        .unwrap()
}

#[test]
fn the_nearest_partitions_hold_most_neighbours() {
    for metric in Metric::ALL {
        let mut rng = fastrand::Rng::with_seed(1);
        let (dim, rows) = (16, 2000);
        let data = blobs(&mut rng, 20, rows, dim);
        let g = trained(metric, &data, 20);
        assert_eq!(g, trained(metric, &data, 20), "same seed, same cells");
        let of = g.assign(&refs(&data));
        let held = |p: u32| of.iter().filter(|q| **q == p).count() as u64;
        let (mut found, mut wanted) = (0, 0);
        for q in data.iter().step_by(97) {
            let mut truth: Vec<(f32, usize)> = (data.iter().enumerate())
                .map(|(i, v)| (metric.distance(q, v), i))
                .collect();
            truth.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut ranked = Vec::new();
            g.ranks(q, &mut ranked);
            ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut left = rows as u64 / 4;
            let wanted_partition = |(_, p): &(f32, u32)| {
                let before = left;
                left = left.saturating_sub(held(*p));
                before > 0
            };
            let probed: Vec<u32> = ranked
                .into_iter()
                .take_while(wanted_partition)
                .map(|(_, p)| p)
                .collect();
            wanted += 10;
            let near = truth[..10].iter();
            found += near.filter(|(_, i)| probed.contains(&of[*i])).count();
        }
        assert!(found * 100 >= wanted * 95, "{metric}: {found} of {wanted}");
    }
}

#[test]
fn many_partitions_are_found_by_their_groups() {
    let mut rng = fastrand::Rng::with_seed(4);
    let data = blobs(&mut rng, 300, 12_000, 24);
    let some = trained(Metric::Cosine, &data, 600);
    assert!(some.active().len() > 550, "{}", some.active().len());
    assert!(some.groups.is_some());
    let (quick, sure) = (some.assign(&refs(&data)), some.assign_exactly(&refs(&data)));
    let same = quick.iter().zip(&sure).filter(|(a, b)| a == b).count();
    println!("nearest partition found for {same} of {} rows", data.len());
    assert!(same * 100 >= data.len() * 97, "{same}");
    // One at a time or all together: it does not matter.
    for (row, partition) in data.iter().zip(&quick).step_by(501) {
        assert_eq!(some.assign(&[row]), [*partition]);
    }
}

#[test]
fn a_change_keeps_what_it_does_not_name() {
    let mut rng = fastrand::Rng::with_seed(5);
    let data = blobs(&mut rng, 8, 400, 8);
    let before = trained(Metric::L2, &data, 8);
    let numbers = before.active().to_vec();
    let next = before.next_number();
    let added = numbered(next, vec![vec![1.0; 8], vec![2.0; 8]]);
    let retired = BTreeSet::from([numbers[2]]);
    let after = before.changed(&added, &retired, &BTreeSet::new()).unwrap();
    assert_eq!(after.retired(), [numbers[2]]);
    assert_eq!(after.active().len(), numbers.len() + 1);
    for p in &numbers {
        assert_eq!(
            after.centroid(*p),
            before.centroid(*p),
            "centroids never change"
        );
    }
    assert!(!after.assign(&refs(&data)).contains(&numbers[2]));
    assert!(after.changed(&added, &retired, &retired).is_err(), "twice");
    let forgotten = after.changed(&[], &BTreeSet::new(), &retired).unwrap();
    assert_eq!(forgotten.centroid(numbers[2]), None);
    assert_eq!(forgotten.next_number(), next + 2);
}

#[test]
fn a_partition_survives_its_bytes_and_damage_is_found() {
    let partition = Partition {
        number: 9,
        retired: true,
        centroid: vec![1.0, -2.5, 3.0],
    };
    let bytes = partition.encode();
    assert_eq!(Partition::decode(9, 3, &bytes).unwrap(), partition);
    for cut in 0..bytes.len() {
        assert!(Partition::decode(9, 3, &bytes[..cut]).is_err(), "{cut}");
    }
    assert!(Partition::decode(9, 2, &bytes).is_err());
    let mut later = bytes.clone();
    later[0] = 9;
    assert!(Partition::decode(9, 3, &later).is_err());
}

#[test]
fn what_the_first_versions_wrote_is_read_and_damage_is_found() {
    let head = [7u32.to_le_bytes(), 2u32.to_le_bytes()].concat();
    let part = |floats: &[f32]| {
        let mut out = head.clone();
        put_floats(&mut out, floats);
        out
    };
    let parts = [part(&[1.0, 2.0, 3.0]), part(&[4.0])];
    let read = |parts: &[Vec<u8>]| read_generation(0, 2, parts.iter().map(Vec::as_slice));
    let expected = numbered(7, vec![vec![1.0, 2.0], vec![3.0, 4.0]]);
    assert_eq!(read(&parts).unwrap(), expected);
    assert!(read(&parts[1..]).is_err());
    assert!(read(&[vec![1, 2, 3]]).is_err());
    assert!(read(&[]).is_err());
}

#[test]
fn fewer_rows_than_partitions_and_equal_rows_do_no_harm() {
    assert_eq!(trained(Metric::L2, &[vec![1.0, 2.0]], 8).active(), [5]);
    let same = vec![vec![1.0, 2.0]; 50];
    let some = trained(Metric::Cosine, &same, 8);
    let numbers = some.assign(&refs(&same));
    assert!(numbers.iter().all(|p| some.active().contains(p)));
    let opposite = [vec![1.0, 0.0], vec![-1.0, 0.0]];
    let none = Partitions::new(2, Metric::Cosine);
    let made = none.train(&refs(&opposite), 1, 7);
    assert_eq!(made, [[1.0, 0.0]], "a mean without direction is none");
}

#[test]
fn a_plan_keeps_to_the_sample_there_is() {
    assert_eq!(plan(1_000, 64, 20_000), (31, 744));
    let (k, sample) = plan(1_000_000, 64, 20_000);
    assert_eq!((k, sample), (2_500, 20_000));
    assert_eq!(plan(0, 64, 0), (1, 1));
}
