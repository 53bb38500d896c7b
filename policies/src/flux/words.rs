//! Why a row stands where it stands: the score split by signal, the threshold, and what would move it next, in words.

use aether_core::role::{Context, Figure};

use crate::books::{Books, part, words_of};

use super::figures::{Hot, Past};
use super::{Flux, RECENT_KEEP, Terms, recent_keep};

/// The row in question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    /// A hot one, of so many bytes, 0 if they are not known.
    Hot {
        figures: Hot,
        bytes: u32,
        pinned: bool,
    },
    /// One that is remembered.
    Past(Past),
}

/// Keep-value, figures and words for a row.
pub(super) fn explain(
    flux: &Flux,
    books: &Books<Hot>,
    of: Of,
    context: &Context,
) -> (f64, Vec<Figure>, String) {
    let now = context.now;
    let (terms, recent) = match of {
        Of::Hot { figures, bytes, .. } => (
            flux.terms(figures.past(), figures.restore_us(), bytes, now),
            figures.recent(),
        ),
        Of::Past(past) => (flux.terms(past, 0.0, 0, now), false),
    };
    let keep = match of {
        Of::Hot { figures, .. } if recent => recent_keep(figures.used_age_s(now)),
        _ => terms.keep(),
    };
    let lowest = flux.lowest(books, now);
    let next = next(flux, of, &terms, recent, lowest);
    let used = match of {
        Of::Hot { figures, .. } => {
            format!("used {} ago, ", words_of(figures.used_age_s(now)))
        }
        Of::Past(_) => String::new(),
    };
    let words = format!(
        "{used}decayed count {:.2}, importance {:.1}; {next}",
        terms.count, terms.importance
    );
    (keep, figures(flux, &terms, keep, recent, lowest), words)
}

/// What would move the row next.
fn next(flux: &Flux, of: Of, terms: &Terms, recent: bool, lowest: Option<f64>) -> String {
    let keep = terms.keep();
    let lowest = lowest.unwrap_or(keep);
    match of {
        Of::Hot { pinned: true, .. } => "pinned, so it stays whatever its worth".to_owned(),
        Of::Hot { .. } if recent && flux.steer.is_recency() => {
            "rows leave in the order of their last use, which keeps most here: it leaves when it is the one used longest ago"
                .to_owned()
        }
        Of::Hot { .. } if recent => format!(
            "among the {:.0} % of rows used last, which stay; when newer uses have pushed it out of them its worth {keep:.2} counts",
            100.0 * flux.steer.recent_share()
        ),
        Of::Hot { .. } if keep <= lowest => {
            format!(
                "no hot row is worth less than its {keep:.2}: it is the next to leave when room is needed"
            )
        }
        Of::Hot { .. } if lowest < RECENT_KEEP / 2.0 => format!(
            "worth {keep:.2}, the least worthy hot row {lowest:.2}: unused, it comes down to that after about {:.0} uses of other rows, \
             and leaves when room is needed",
            (keep - lowest) * half_life_uses(flux)
        ),
        Of::Hot { .. } => format!("leaves when its worth {keep:.2} is the lowest"),
        Of::Past(_) if flux.steer.recent_share() > 0.0 => {
            "not hot; its next use brings it in, as one of the rows used last".to_owned()
        }
        Of::Past(_) => format!(
            "not hot; comes in at a use that lifts its worth, now {keep:.2} without the cost to restore, so far above {lowest:.2} \
             that more than {} misses are saved",
            flux.move_cost
        ),
    }
}

fn half_life_uses(flux: &Flux) -> f64 {
    flux.steer.half_life() * flux.steer.capacity_rows()
}

fn figures(
    flux: &Flux,
    terms: &Terms,
    keep: f64,
    recent: bool,
    lowest: Option<f64>,
) -> Vec<Figure> {
    let figure = |name, value, unit| Figure { name, value, unit };
    let mut figures = vec![
        figure("count", terms.count, "uses, decayed"),
        figure("importance", terms.importance, "0 to 1"),
        figure("restore", terms.restore_us, "us"),
        figure("bytes", terms.bytes, "bytes"),
        figure(
            "recent",
            f64::from(u8::from(recent)),
            "1 among the rows used last",
        ),
        figure("half_life", half_life_uses(flux), "uses"),
        figure(
            "recent_share",
            flux.steer.recent_share(),
            "share of hot rows",
        ),
        figure("settings_changed", flux.steer.changes as f64, "times"),
        // In doublings: of the count, of 1 + weight x importance, of the milliseconds of a miss, and of KiB downwards.
        part("reuse_part", terms.reuse),
        part("importance_part", terms.importance_gain),
        part("cost_part", terms.cost),
        part("size_part", terms.size),
    ];
    // What a place among the rows used last adds to that.
    let rest = keep - (terms.reuse + terms.value());
    if rest != 0.0 {
        figures.push(part("recency_part", rest));
    }
    if let Some(lowest) = lowest {
        figures.push(figure(
            "threshold",
            lowest,
            "lowest keep-value of a hot row",
        ));
    }
    figures
}
