//! The oracle of `aether torture` judges as the reference model does that all other tests use: on drawn histories, and on memories that hold what
//! they should or have one mistake. Model and oracle are two, since the oracle goes with the program, into another process, and knows points by
//! their numbers alone.

use std::collections::BTreeMap;

use aether::role::{Fidelity, Tier};
use aether::{Metric, Point, Record, Row};
use aether_testkit::model::Model;

use super::oracle::Oracle;
use super::script::{
    Line, Op, PLACES, Place, Version, WORKERS, id_of, mix, operation, payload_of, point_of,
    vector_of,
};

/// What a memory may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    Nothing,
    LosesAPoint,
    BringsOneBack,
    MakesOneUp,
    ForgetsAPayload,
}

const MISTAKES: [Mistake; 5] = [
    Mistake::Nothing,
    Mistake::LosesAPoint,
    Mistake::BringsOneBack,
    Mistake::MakesOneUp,
    Mistake::ForgetsAPayload,
];

type Places = BTreeMap<Place, Version>;

/// Every version of a place has a row of its own.
fn row_of(place: Place, version: Version) -> Row {
    Row(mix(&[place, version]))
}

fn record(place: Place, version: Version) -> Record {
    Record {
        id: id_of(place),
        row: row_of(place, version),
        tier: Tier::Hot,
        vector: Some(vector_of(version)),
        fidelity: Fidelity::Exact,
        payload: payload_of(version),
        expires_in: None,
    }
}

/// Tells a model of a write: acknowledged, or of unknown outcome.
fn tell(model: &mut Model, op: &Op, acknowledged: bool) {
    match op {
        Op::Upsert(writes) => {
            let points: Vec<Point> = writes.iter().map(|(p, v)| point_of(*p, *v)).collect();
            let rows: Vec<Row> = writes.iter().map(|(p, v)| row_of(*p, *v)).collect();
            match acknowledged {
                true => model.upserted(&points, &rows, 0),
                false => model.maybe_upserted(&points, 0),
            }
        }
        Op::Delete(places) => {
            let ids: Vec<_> = places.iter().map(|p| id_of(*p)).collect();
            match acknowledged {
                true => model.deleted(&ids),
                false => model.maybe_deleted(&ids),
            }
        }
        _ => {}
    }
}

/// Whether a worker's model finds nothing wrong.
fn is_fine(model: &mut Model, worker: u64, found: &BTreeMap<Place, Record>) -> bool {
    let own = worker * PLACES..(worker + 1) * PLACES;
    let place_of: BTreeMap<_, _> = own.clone().map(|p| (id_of(p), p)).collect();
    let doubted = model.doubted();
    let records = doubted.iter().map(|id| found.get(&place_of[id]).cloned());
    let resolved = model.resolve(&records.collect::<Vec<_>>(), 0);
    let checked = own.map(|p| model.check_get(&id_of(p), found.get(&p), 0));
    let checked: Vec<_> = checked.collect();
    resolved.is_ok() && checked.iter().all(Result::is_ok)
}

/// A history of each worker, its last write in doubt. Answers what oracle and models say.
fn judge(seed: u64, mistake: Mistake) -> (bool, bool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut oracle, mut truth) = (Oracle::default(), Places::new());
    let mut former: Vec<(Place, Version)> = Vec::new();
    let mut models: Vec<Model> = Vec::new();
    for worker in 0..WORKERS {
        let mut model = Model::new(Metric::L2, 0);
        let last = rng.u64(1..25);
        for number in 0..=last {
            let op = operation(seed, worker, number);
            oracle.hear(seed, Line::Begun(worker, number));
            let acknowledged = number < last;
            tell(&mut model, &op, acknowledged);
            if acknowledged {
                oracle.hear(seed, Line::Done(worker, number));
            } else if rng.bool() {
                continue;
            }
            for (place, version) in op.effect() {
                former.extend(truth.get(&place).map(|was| (place, *was)));
                match version {
                    Some(version) => truth.insert(place, version),
                    None => truth.remove(&place),
                };
            }
        }
        models.push(model);
    }
    let any = |rng: &mut fastrand::Rng, truth: &Places| {
        // One of those that there are.
        let nth = rng.usize(..truth.len());
        truth.iter().nth(nth).map(|(p, v)| (*p, *v)).unwrap()
    };
    let mut found: BTreeMap<Place, Record> =
        truth.iter().map(|(p, v)| (*p, record(*p, *v))).collect();
    match mistake {
        Mistake::Nothing => {}
        _ if truth.is_empty() => {}
        Mistake::LosesAPoint => {
            found.remove(&any(&mut rng, &truth).0);
        }
        Mistake::BringsOneBack => {
            if let Some((place, version)) = rng.choice(former) {
                found.insert(place, record(place, version));
            }
        }
        Mistake::MakesOneUp => {
            let place = rng.u64(..WORKERS * PLACES);
            found.insert(place, record(place, seed));
        }
        Mistake::ForgetsAPayload => {
            let (place, version) = any(&mut rng, &truth);
            found.insert(
                place,
                Record {
                    payload: None,
                    ..record(place, version)
                },
            );
        }
    }
    oracle.compare_points(&found);
    let models = (0..)
        .zip(&mut models)
        .map(|(w, model)| is_fine(model, w, &found));
    (
        oracle.found.is_clean(),
        models.fold(true, |all, fine| all & fine),
    )
}

#[test]
fn the_oracle_judges_as_the_reference_model_does() {
    let mut bad = [0; MISTAKES.len()];
    for seed in 0..400 {
        for (mistake, bad) in MISTAKES.into_iter().zip(&mut bad) {
            let (oracle, model) = judge(seed, mistake);
            assert_eq!(
                oracle, model,
                "seed {seed}, {mistake:?}: fine for the oracle, for the model"
            );
            *bad += u32::from(!model);
        }
    }
    assert_eq!(bad[0], 0, "what is right is called so");
    assert!(bad[1..].iter().all(|bad| *bad > 100), "{bad:?}");
}
