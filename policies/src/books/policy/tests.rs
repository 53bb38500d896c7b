//! Saved books that are damaged but bear a true checksum: a bug or a forger may write them, and they must be found too.

use proptest::prelude::*;

use aether_core::role::Figure;

use super::*;
use crate::books::Stamp;

/// Keeps nothing but the order of entering; two lists, so that both are exercised.
#[derive(Debug)]
struct Plain;

impl Rules for Plain {
    const NAME: &'static str = "plain";
    const LISTS: u32 = 2;
    type Hot = Stamp;
    type Past = Stamp;

    fn enter(&mut self, _restore_us: f32, _past: Option<Stamp>, now: Time) -> Stamp {
        Stamp::of(now)
    }

    fn touch(&mut self, books: &mut Books<Stamp>, slot: u32, _now: Time) {
        books.push_back(1, slot);
    }

    fn renew(&mut self, _books: &mut Books<Stamp>, _slot: u32, _now: Time) {}

    fn link(&mut self, books: &mut Books<Stamp>, slot: u32, _now: Time) {
        books.push_back(0, slot);
    }

    fn leave(&self, figures: Stamp) -> Stamp {
        figures
    }

    fn miss(&mut self, _books: &mut Books<Stamp>, past: Option<Stamp>, _now: Time) -> Stamp {
        past.unwrap_or_default()
    }

    fn victims(&mut self, books: &Books<Stamp>, want: Want, context: &Context) -> Vec<Verdict> {
        let order = books.list(0).chain(books.list(1));
        books.take_in_order(order, want, context, |slot| Verdict {
            row: books.row(slot),
            keep: 0.0,
            certain: false,
            reason: "its turn",
        })
    }

    fn admit(
        &mut self,
        _books: &Books<Stamp>,
        item: &Item,
        _past: Option<Stamp>,
        _context: &Context,
    ) -> Verdict {
        Verdict {
            row: item.row,
            keep: 0.0,
            certain: false,
            reason: "its turn",
        }
    }

    fn explain(
        &self,
        _books: &Books<Stamp>,
        _standing: Standing<Stamp, Stamp>,
        _context: &Context,
    ) -> (f64, Vec<Figure>, String) {
        (0.0, Vec::new(), String::new())
    }
}

const CONTEXT: Context = Context {
    now: Time(0),
    temperature: 1.0,
    hot_bytes: 0,
    budget_bytes: 0,
};

fn filled() -> Policy<Plain> {
    let mut policy = Policy::new(Plain, 0.5);
    for row in 0..40 {
        let (item, tier) = (
            Item {
                row: Row(row),
                bytes: 100,
                restore_us: 1.0,
            },
            Tier::Hot,
        );
        policy.on_event(&Event::Inserted { item, tier }, Time(row));
        match row % 5 {
            0 => policy.on_event(
                &Event::Pinned {
                    row: Row(row),
                    pinned: true,
                },
                Time(row),
            ),
            1 => policy.on_event(&Event::Accessed { row: Row(row) }, Time(row)),
            2 => policy.on_event(
                &Event::Moved {
                    item,
                    to: Tier::Cold,
                },
                Time(row),
            ),
            _ => {}
        }
    }
    policy.on_event(
        &Event::Pinned {
            row: Row(99),
            pinned: true,
        },
        Time(0),
    );
    policy
}

fn saved(policy: &Policy<Plain>) -> Vec<u8> {
    let mut bytes = Vec::new();
    policy.save(&mut bytes);
    bytes
}

fn sealed(mut inner: Vec<u8>) -> Vec<u8> {
    seal(&mut inner, 0, checksum(Plain::NAME.as_bytes(), 0));
    inner
}

/// Books that were taken must be sound, whoever wrote them.
fn sound(policy: &mut Policy<Plain>) {
    let free = policy.books.free() as usize;
    let want = Want {
        rows: usize::MAX,
        bytes: u64::MAX,
    };
    let verdicts = policy.victims(want, &CONTEXT);
    assert_eq!(verdicts.len(), free);
    let mut rows: Vec<Row> = verdicts.iter().map(|v| v.row).collect();
    rows.sort();
    rows.dedup();
    assert_eq!(rows.len(), free);
    let rows = policy.len() as u64;
    assert!(policy.bytes() <= policy.bytes_after(0));
    for slot in 0..rows as u32 {
        assert_eq!(policy.books.find(policy.books.row(slot)), Some(slot));
    }
}

#[test]
fn saved_books_come_back_as_they_were() {
    let policy = filled();
    let bytes = saved(&policy);
    let mut other = filled();
    other.load(&bytes).unwrap();
    assert_eq!(saved(&other), bytes);
    assert_eq!(other.len(), 32);
    assert!(other.books.remembered(Row(99)));
    sound(&mut other);
}

#[test]
fn books_of_another_policy_are_refused() {
    let mut bytes = saved(&filled());
    bytes.truncate(bytes.len() - 8);
    seal(&mut bytes, 0, checksum(b"other", 0));
    let error = filled().load(&bytes).unwrap_err();
    assert!(error.is_corrupt(), "{error}");
    assert!(
        error.to_string().starts_with("policy plain load"),
        "{error}"
    );
}

#[test]
fn contradictions_under_a_true_checksum_are_named() {
    let whole = saved(&filled());
    let inner = &whole[..whole.len() - 8];
    let gap_at = MAGIC.len() + 8;
    let rows_at = gap_at + 4 + 4;
    let record = 12 + <Stamp as crate::books::Packed>::BYTES;
    let refused = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let mut bad = inner.to_vec();
        change(&mut bad);
        let mut policy = filled();
        let error = policy.load(&sealed(bad)).unwrap_err();
        assert!(
            error.is_corrupt() && error.to_string().contains(expected),
            "{error}"
        );
        assert_eq!((policy.len(), policy.history.get(Row(2))), (0, None));
    };
    refused(&|b| b[0] ^= 1, "do not begin with");
    refused(&|b| b.push(0), "too many");
    let gap =
        |at: u32| move |b: &mut Vec<u8>| b[gap_at..gap_at + 4].copy_from_slice(&at.to_le_bytes());
    refused(&gap(33), "there is a gap at");
    refused(&gap(0), "there is a gap beside pinned rows");
    refused(&|b| b[rows_at - 1] = 255, "items of");
    refused(
        &|b| b.copy_within(rows_at..rows_at + 8, rows_at + record),
        "stands twice or",
    );
    refused(&|b| b[rows_at + 11] |= 0x80, "behind a pinned one");
    let lists_at = rows_at + 32 * record;
    refused(&|b| b[lists_at + 4] = 200, "pinned, absent or listed twice");
    refused(
        &|b| b.copy_within(lists_at + 4..lists_at + 8, lists_at + 8),
        "pinned, absent or listed twice",
    );
}

proptest! {
    #[test]
    fn resealed_damage_is_refused_or_harmless(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let whole = saved(&filled());
        let mut inner = whole[..whole.len() - 8].to_vec();
        for (at, byte) in changes {
            let at = at.index(inner.len());
            inner[at] = byte;
        }
        if let Some(cut) = cut {
            inner.truncate(cut.index(inner.len()));
        }
        let mut policy = Policy::new(Plain, 0.5);
        match policy.load(&sealed(inner)) {
            Ok(()) => sound(&mut policy),
            Err(e) => {
                prop_assert!(e.is_corrupt(), "{e}");
                prop_assert_eq!(policy.len(), 0);
            }
        }
    }
}
