//! What would move a row next, from where it stands now.

use serde::Serialize;

use crate::config::FluxConfig;
use crate::flux::Draw;
use crate::role::Tier;

/// What would move a row next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlook {
    /// Where it would go; `None` while nothing but a call moves it.
    pub to: Option<Tier>,
    /// Whether it is decided already and waits for its turn.
    pub decided: bool,
    /// The worth about which it is decided: a hot row leaves toward it from above, a cold one enters from it upward.
    pub worth: Option<f64>,
    /// Share of the hot tier's capacity in use at which moving begins to be a question, for a hot row.
    pub fill: Option<f64>,
    /// Its chance as things stand: of a hot row in the next turn, of a cold row when it is used next. `None` where it is not known,
    /// as over the high-water mark, where the worst leave without a draw.
    pub chance: Option<f64>,
    /// The same in words.
    pub words: String,
}

impl Outlook {
    /// Of a row that only a call moves.
    pub(super) fn still(words: String) -> Self {
        Self {
            to: None,
            decided: false,
            worth: None,
            fill: None,
            chance: None,
            words,
        }
    }
}

/// Where a row stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) config: &'a FluxConfig,
    pub(super) tier: Tier,
    pub(super) pinned: bool,
    /// Its worth, if the policy knows it.
    pub(super) keep: Option<f64>,
    /// What turns worth into odds, once a turn has looked.
    pub(super) draw: Option<Draw>,
    /// Share of the hot tier's capacity in use, and rows in it.
    pub(super) share: f64,
    pub(super) rows: u64,
    /// A hot row was drawn to leave, and waits for others.
    pub(super) drifting: bool,
    /// A cold row waits for promotion, after so many tries.
    pub(super) waiting: Option<u32>,
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

impl Place<'_> {
    pub(super) fn outlook(&self) -> Outlook {
        match self.tier {
            Tier::Hot => self.of_hot(),
            Tier::Cold => self.of_cold(),
        }
    }

    /// "Its worth is 1.2, the threshold 0.8", as far as both are known.
    fn worth(&self) -> String {
        let even = self.draw.map(|d| d.midpoint.at);
        match (self.keep, even) {
            (Some(keep), Some(even)) => format!("its worth is {keep:.3}, the threshold {even:.3}"),
            (Some(keep), None) => format!("its worth is {keep:.3}"),
            (None, _) => "its worth is not known".to_owned(),
        }
    }

    fn of_hot(&self) -> Outlook {
        if self.pinned {
            return Outlook::still("nothing, until it is unpinned.".to_owned());
        }
        let (low, high) = (self.config.low_water, self.config.high_water);
        let worth = self.worth();
        let full = format!("the hot tier is {} full", percent(self.share));
        let leave = match (self.keep, self.draw) {
            (Some(keep), Some(draw)) => Some(draw.leave(keep)),
            _ => None,
        };
        // A turn looks at a sample of the rows.
        let looked = (self.config.sample as f64 / self.rows.max(1) as f64).min(1.0);
        let (chance, words) = if self.drifting {
            (
                None,
                format!(
                    "it was drawn to leave and waits for enough others to go with; used before that, it stays if that lifts it over the \
                     threshold ({worth})."
                ),
            )
        } else if self.share > high {
            (
                None,
                format!(
                    "{full}, over the mark of {}: without a draw the rows of least worth leave until it is {} full; {worth}.",
                    percent(high),
                    percent(low)
                ),
            )
        } else if self.share > low {
            let chance = leave.map(|leave| leave * looked);
            let odds = chance.map_or(String::new(), |c| {
                format!(" with a chance of {c:.4} in each turn")
            });
            (
                chance,
                format!(
                    "{full}: it leaves{odds}, the sooner the farther its worth falls below the threshold; {worth}. Over {} the worst \
                     leave at once.",
                    percent(high)
                ),
            )
        } else {
            (
                Some(0.0),
                format!(
                    "it stays while the hot tier is at most {} full ({full}), unless the policy wants it out whatever room there is; \
                     {worth}.",
                    percent(low)
                ),
            )
        };
        Outlook {
            to: Some(Tier::Cold),
            decided: self.drifting,
            worth: self.draw.map(|d| d.midpoint.at),
            fill: Some(low),
            chance,
            words,
        }
    }

    fn of_cold(&self) -> Outlook {
        let low = self.config.low_water;
        let roomy = self.share < low;
        let enter = match (self.keep, self.draw) {
            (Some(keep), Some(draw)) => Some(draw.enter(keep)),
            _ => None,
        };
        let chance = if roomy { Some(1.0) } else { enter };
        let words = match self.waiting {
            Some(tries) if tries > 0 => format!(
                "it waits to be brought back, after {tries} of {} tries that failed.",
                self.config.restore_tries
            ),
            Some(_) => "it waits to be brought back in the next turn.".to_owned(),
            None if self.pinned => {
                "it comes back as soon as there is room: it is pinned.".to_owned()
            }
            None if roomy => format!(
                "it comes back when it is used next: the hot tier is {} full, and under {} every row that is used may enter.",
                percent(self.share),
                percent(low)
            ),
            None => {
                let odds = enter.map_or(String::new(), |c| {
                    format!(" (with a chance of {c:.4} if its worth stayed as it is)")
                });
                format!(
                    "it comes back when it is used next and its worth then is near or above the threshold, or the policy is certain of \
                     it{odds}; {}. The hot tier is {} full.",
                    self.worth(),
                    percent(self.share)
                )
            }
        };
        Outlook {
            to: Some(Tier::Hot),
            decided: self.waiting.is_some(),
            worth: self.draw.map(|d| d.midpoint.at),
            fill: None,
            chance: if self.waiting.is_some() { None } else { chance },
            words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flux::Midpoint;

    /// A hot tier of 1,000 rows, 93 % full; the sample of a turn is 256 rows. Even chance at 2, spread 1, steepness 4.
    fn place(config: &FluxConfig) -> Place<'_> {
        let draw = Draw {
            midpoint: Midpoint {
                at: 2.0,
                spread: 1.0,
            },
            steepness: 4.0,
            temperature: 0.5,
        };
        Place {
            config,
            tier: Tier::Hot,
            pinned: false,
            keep: Some(2.0),
            draw: Some(draw),
            share: 0.93,
            rows: 1_000,
            drifting: false,
            waiting: None,
        }
    }

    #[test]
    fn a_hot_row_leaves_by_chance_between_the_marks() {
        let config = FluxConfig::default();
        let at = place(&config);
        let next = at.outlook();
        assert_eq!((next.to, next.worth), (Some(Tier::Cold), Some(2.0)));
        // A half at the threshold, by a temperature of a half, by 256 looks at 1,000 rows.
        assert!((next.chance.unwrap() - 0.5 * 0.5 * 0.256).abs() < 1e-9);
        assert!(next.words.contains("0.0640"), "{}", next.words);
        let worth_more = Place {
            keep: Some(3.0),
            ..at
        };
        assert!(worth_more.outlook().chance < next.chance);
    }

    #[test]
    fn under_the_low_mark_it_stays_and_over_the_high_one_nothing_is_drawn() {
        let config = FluxConfig::default();
        let at = place(&config);
        let calm = Place { share: 0.5, ..at };
        assert_eq!(calm.outlook().chance, Some(0.0));
        let pressed = Place { share: 0.97, ..at };
        assert_eq!(pressed.outlook().chance, None);
        assert!(pressed.outlook().words.contains("over the mark of 95 %"));
    }

    #[test]
    fn a_pin_or_a_draw_decides() {
        let config = FluxConfig::default();
        let at = place(&config);
        let pinned = Place { pinned: true, ..at };
        assert_eq!(pinned.outlook().to, None);
        let drifting = Place {
            drifting: true,
            ..at
        };
        let next = drifting.outlook();
        assert_eq!((next.decided, next.to), (true, Some(Tier::Cold)));
    }

    #[test]
    fn a_cold_row_enters_by_worth_or_by_room() {
        let config = FluxConfig::default();
        let cold = Place {
            tier: Tier::Cold,
            keep: Some(2.0),
            ..place(&config)
        };
        let next = cold.outlook();
        assert_eq!((next.to, next.worth), (Some(Tier::Hot), Some(2.0)));
        assert!((next.chance.unwrap() - 0.25).abs() < 1e-9);
        let roomy = Place { share: 0.5, ..cold };
        assert_eq!(roomy.outlook().chance, Some(1.0));
        let unknown = Place { keep: None, ..cold };
        assert_eq!(unknown.outlook().chance, None);
        let waiting = Place {
            waiting: Some(2),
            ..cold
        };
        let next = waiting.outlook();
        assert!(next.decided && next.words.contains("2 of 6"), "{next:?}");
    }

    #[test]
    fn before_the_first_turn_there_is_no_threshold() {
        let config = FluxConfig::default();
        for tier in [Tier::Hot, Tier::Cold] {
            let at = Place {
                tier,
                draw: None,
                ..place(&config)
            };
            let next = at.outlook();
            assert_eq!((next.worth, next.chance), (None, None));
            assert!(next.words.contains("its worth is 2.000"), "{}", next.words);
        }
    }
}
