use super::*;
use crate::books::play::Play;

fn lecar(odds: f64) -> Play {
    let mut lecar = Lecar::new(0.45, 0.005, 1);
    lecar.by_last_use = odds;
    Play::new(Policy::new(Queued::new(lecar, GHOSTS_SHARE), 0.0), 3)
}

#[test]
fn each_expert_alone_is_lru_or_lfu() {
    let rows = [1, 1, 1, 2, 2, 3];
    assert_eq!(lecar(1.0).use_rows(&[&rows[..], &[4]].concat()), [1]);
    assert_eq!(lecar(0.0).use_rows(&[&rows[..], &[4]].concat()), [3]);
}

/// Equation by hand: after t uses in a tier of n rows the factor is e^(-0.45 * 0.005^(t/n)).
#[test]
fn a_regret_lowers_the_odds_of_the_expert_that_chose() {
    let mut lecar = Lecar::new(0.45, 0.005, 1);
    lecar.regret(false, 3, 3);
    let factor = (-0.45_f64 * 0.005).exp();
    assert!((lecar.by_last_use - factor / (factor + 1.0)).abs() < 1e-9);
    let mut lecar = Lecar::new(0.45, 0.005, 1);
    lecar.regret(true, 0, 3);
    let factor = (-0.45_f64).exp();
    assert!((lecar.by_last_use - 1.0 / (factor + 1.0)).abs() < 1e-9);
}

/// Where last use is always wrong, two rows that are used between scans longer than the tier, frequency takes over and keeps them.
#[test]
fn odds_follow_what_is_regretted() {
    let lecar = Lecar::new(0.45, 1.0, 1);
    let mut play = Play::new(Policy::new(Queued::new(lecar, GHOSTS_SHARE), 0.0), 3);
    let mut next = 100;
    let mut misses = |rounds: u64| {
        let mut missed = 0;
        for _ in 0..rounds {
            for row in [1, 1, 2, 2] {
                missed += usize::from(play.use_row(row).is_some());
            }
            for _ in 0..4 {
                next += 1;
                play.use_row(next);
            }
        }
        missed
    };
    let (early, late) = (misses(20), misses(20));
    // By last use both rows are missed once a round, 40 times in all.
    assert!(late <= 4 && late < early, "{early}, then {late}");
}
