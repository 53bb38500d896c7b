//! Ten scenarios, each under many drawn schedules, and others under every schedule.
//!
//! `AETHER_SCHEDULES` sets how many schedules each gets (2,000). A failure prints the schedule that repeats it.

use std::panic::catch_unwind;

use aether_schedules::scenario::weak::{self, Planted};
use aether_schedules::scenario::{admission, epoch, held, open_files, readers, stage, timeline};

/// Half of the schedules are drawn step by step, half with few changes of thread at drawn places, which finds what needs a long run of one.
fn explore(name: &str, scenario: fn()) {
    let schedules = match std::env::var("AETHER_SCHEDULES") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|e| panic!("AETHER_SCHEDULES={text}: {e}")),
        Err(_) => 2_000,
    };
    shuttle::check_random(scenario, schedules / 2);
    shuttle::check_pct(scenario, schedules - schedules / 2, 3);
    println!("{name}: {schedules} schedules");
}

macro_rules! explored {
    ($($module:ident::$scenario:ident,)*) => {
        $(#[test]
        fn $scenario() {
            explore(stringify!($scenario), $module::$scenario);
        })*
    };
}

explored! {
    epoch::a_place_is_not_written_over_under_a_reader,
    epoch::nor_under_readers_without_a_cell,
    epoch::waiting_ends_when_all_readers_of_before_have,
    readers::a_search_finds_every_row_while_rows_move,
    readers::waiting_for_a_move_ends,
    readers::done_means_done_and_all_before_it,
    admission::places_are_never_exceeded_and_all_come_back,
    admission::closing_wakes_all_who_wait,
    timeline::time_never_goes_back,
    open_files::a_deleted_blob_is_not_kept,
}

/// Loom goes through all of them; the bound is on how often a thread is interrupted where it need not be.
#[test]
fn under_weak_memory_no_place_is_written_over_under_a_reader() {
    for (readers, preemptions) in [(1, None), (2, Some(2))] {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = preemptions;
        model.check(move || weak::a_place_is_not_written_over_under_a_reader(readers, false));
    }
}

/// What searches read without a lock: tags, lists of links, chains of upper records, marks, the entry point, how many slots there are and where
/// they lie.
#[test]
fn under_weak_memory_a_search_sees_whole_rows_and_links_that_somebody_wrote() {
    for scenario in [
        weak::a_row_whose_link_is_read_is_whole,
        weak::a_row_whose_tag_is_seen_is_whole,
        weak::a_list_that_is_rewritten_shows_links_only,
        weak::a_slot_that_is_given_to_another_row_is_seen_as_either,
        weak::a_slot_that_is_counted_has_memory,
        weak::an_entry_point_leads_to_a_whole_row,
        weak::an_upper_record_that_is_reached_is_empty,
        weak::a_row_that_is_marked_has_a_link,
    ] {
        loom::model(move || scenario(Planted::Nothing));
    }
}

type OfStage = fn(stage::Planted);

/// Where rows of `auto` are: as they move, as they come, as they go.
const STAGES: [OfStage; 4] = [
    stage::a_row_is_found_while_it_moves,
    stage::no_row_comes_into_a_scan_that_is_being_emptied,
    stage::a_row_that_was_removed_does_not_come_back,
    stage::rows_that_are_loaded_are_not_passed_over,
];

/// Goes through what has at most this many interruptions where none need be: moves take too many steps for all.
fn of_stage(scenario: OfStage, planted: stage::Planted) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || scenario(planted));
}

#[test]
fn under_weak_memory_a_search_finds_rows_in_whichever_index_they_are() {
    for scenario in STAGES {
        of_stage(scenario, stage::Planted::Nothing);
    }
}

/// Of the stage's orderings those of the last stage are needed alone. Should this fail, the others have become so.
#[test]
fn under_weak_memory_the_last_stage_alone_is_waited_for() {
    let others = stage::Planted::Weak(stage::Weakened::AllBut(stage::MANY));
    for scenario in STAGES {
        of_stage(scenario, others);
    }
}

type OfHeld = fn(held::Planted);

/// What chunks of `flat` count.
#[test]
fn under_weak_memory_bytes_count_as_long_as_they_are_held() {
    let all: [OfHeld; 3] = [
        held::a_chunk_that_is_shown_is_counted,
        held::memory_that_no_longer_counts_is_gone,
        held::a_writer_copies_no_more_than_it_was_told,
    ];
    for scenario in all {
        loom::model(move || scenario(held::Planted::Nothing));
    }
    // What is added is ordered by the lock that shows it.
    for weakened in [held::Weakened::Loads, held::Weakened::Stores] {
        loom::model(move || {
            held::a_chunk_that_is_shown_is_counted(held::Planted::Weak(weakened));
        });
    }
}

#[test]
fn planted_mistakes_of_stages_are_caught() {
    use stage::{Planted, Weakened};
    let planted: [(Planted, OfStage); 9] = [
        (
            Planted::Weak(Weakened::Loads),
            stage::a_row_is_found_while_it_moves,
        ),
        (
            Planted::Weak(Weakened::Stores),
            stage::a_row_is_found_while_it_moves,
        ),
        (
            Planted::LookedTooEarly,
            stage::a_row_is_found_while_it_moves,
        ),
        (Planted::GraphFirst, stage::a_row_is_found_while_it_moves),
        (Planted::OutBeforeIn, stage::a_row_is_found_while_it_moves),
        (Planted::EndedTooEarly, stage::a_row_is_found_while_it_moves),
        (
            Planted::EndedUnasked,
            stage::rows_that_are_loaded_are_not_passed_over,
        ),
        (
            Planted::EnteredUnasked,
            stage::no_row_comes_into_a_scan_that_is_being_emptied,
        ),
        (
            Planted::NotHeld,
            stage::a_row_that_was_removed_does_not_come_back,
        ),
    ];
    for (mistake, scenario) in planted {
        let found = catch_unwind(|| of_stage(scenario, mistake));
        assert!(found.is_err(), "not caught by loom: {mistake:?}");
    }
}

#[test]
fn planted_mistakes_of_counted_bytes_are_caught() {
    use held::{Planted, Weakened};
    let planted: [(Planted, OfHeld); 8] = [
        (
            Planted::ShownBeforeCounted,
            held::a_chunk_that_is_shown_is_counted,
        ),
        (
            Planted::Weak(Weakened::Loads),
            held::memory_that_no_longer_counts_is_gone,
        ),
        (
            Planted::Weak(Weakened::Stores),
            held::memory_that_no_longer_counts_is_gone,
        ),
        (
            Planted::SubtractedFirst,
            held::memory_that_no_longer_counts_is_gone,
        ),
        (
            Planted::Weak(Weakened::Loads),
            held::a_writer_copies_no_more_than_it_was_told,
        ),
        (
            Planted::Weak(Weakened::Stores),
            held::a_writer_copies_no_more_than_it_was_told,
        ),
        (
            Planted::SubtractedFirst,
            held::a_writer_copies_no_more_than_it_was_told,
        ),
        (
            Planted::Kept,
            held::a_writer_copies_no_more_than_it_was_told,
        ),
    ];
    for (mistake, scenario) in planted {
        let found = catch_unwind(|| loom::model(move || scenario(mistake)));
        assert!(found.is_err(), "not caught by loom: {mistake:?}");
    }
}

/// Mistakes that only some schedules show: each must be found.
#[test]
fn planted_mistakes_are_caught() {
    let planted: [(&str, fn()); 3] = [
        (
            "a writer that does not wait",
            epoch::planted_a_place_is_written_over_under_a_reader,
        ),
        (
            "a demotion that does not wait",
            readers::planted_a_row_leaves_under_a_search,
        ),
        (
            "a generation noted too late",
            open_files::planted_a_deleted_blob_is_kept,
        ),
    ];
    for (what, scenario) in planted {
        let found = catch_unwind(|| explore(what, scenario));
        assert!(found.is_err(), "not caught: {what}");
    }
    let weak = catch_unwind(|| {
        loom::model(|| weak::a_place_is_not_written_over_under_a_reader(1, true));
    });
    assert!(weak.is_err(), "not caught by loom");
    let planted: [(Planted, fn(Planted)); 7] = [
        (
            Planted::TagBeforeRow,
            weak::a_row_whose_tag_is_seen_is_whole,
        ),
        (
            Planted::CountBeforeLink,
            weak::a_row_whose_link_is_read_is_whole,
        ),
        (
            Planted::ReusedAtOnce,
            weak::a_slot_that_is_given_to_another_row_is_seen_as_either,
        ),
        (
            Planted::CountedBeforeMemory,
            weak::a_slot_that_is_counted_has_memory,
        ),
        (
            Planted::EntryBeforeTag,
            weak::an_entry_point_leads_to_a_whole_row,
        ),
        (
            Planted::ChainedBeforeEmptied,
            weak::an_upper_record_that_is_reached_is_empty,
        ),
        (
            Planted::MarkedBeforeLink,
            weak::a_row_that_is_marked_has_a_link,
        ),
    ];
    for (mistake, scenario) in planted {
        let found = catch_unwind(|| loom::model(move || scenario(mistake)));
        assert!(found.is_err(), "not caught by loom: {mistake:?}");
    }
}
