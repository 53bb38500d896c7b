//! What the wrong fakes do wrong, and who must notice.

use aether_core::{Factory, Plugin};

use super::{OPTIONS, build, plugin};

/// A wrong policy and the check of [`CHECKS`](crate::conformance::policy::CHECKS) that must fail for it.
#[derive(Debug)]
pub struct Broken {
    /// What is wrong with it.
    pub fault: Fault,
    /// Makes it.
    pub plugin: Plugin,
    /// Who must notice.
    pub check: &'static str,
}

macro_rules! broken {
    ($($(#[doc = $doc:literal])+ $fault:ident => $check:literal;)*) => {
        /// What a fake does wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            /// Nothing.
            None,
            $($(#[doc = $doc])+ $fault,)*
        }

        /// Every wrong fake.
        pub static BROKEN: &[Broken] = &[$(Broken {
            fault: Fault::$fault,
            plugin: plugin(
                if matches!(Fault::$fault, Fault::HidesAnOption) { &[] } else { OPTIONS },
                matches!(Fault::$fault, Fault::ClaimsToPersist),
                Factory::Policy(|raw, context| build(raw, context, Fault::$fault)),
            ),
            check: $check,
        },)*];
    };
}

broken! {
    /// Reads its sort from the wrong end.
    EvictsTheMostValuable => "victims_come_worst_first";
    /// Answers in the order of its books.
    DoesNotSort => "victims_come_worst_first";
    /// Gives a row that was just used an infinite value.
    KeepsForEver => "victims_come_worst_first";
    /// Does not look whether a row is pinned.
    ProposesPinned => "pinned_rows_stay_until_unpinned";
    /// Forgets a pin when its row leaves the hot tier.
    ForgetsPinsInTheCold => "pins_survive_a_stay_in_the_cold_and_a_new_version";
    /// Does not hear that a row moved out.
    ProposesCold => "victims_are_hot_unpinned_and_distinct";
    /// Names its first victim again at the end.
    ProposesTwice => "victims_are_hot_unpinned_and_distinct";
    /// Forgets the limit of rows when asked for bytes.
    ProposesTooMany => "victims_are_at_most_as_many_as_asked";
    /// Answers with three rows whatever the bytes.
    ProposesTooFew => "victims_free_enough_bytes";
    /// Chooses from one sample of a thousand rows.
    LooksOnce => "victims_of_a_large_tier_free_enough_bytes";
    /// Does not part with the last row.
    KeepsTheLast => "a_full_tier_always_makes_room";
    /// Takes its own proposals for moves.
    TakesProposalsForMoves => "victims_are_proposals_only";
    /// Answers about another row than the candidate.
    AdmitsAnotherRow => "admission_answers_in_the_same_scale";
    /// Gives candidates a value far below any resident's.
    AdmitsInAnotherScale => "admission_answers_in_the_same_scale";
    /// Wishes for a row that is there already.
    WishesForWhatIsHot => "wishes_are_cold_known_and_distinct";
    /// Wishes again for what it was not granted.
    WishesAgain => "wishes_are_made_once";
    /// Wishes for cold rows without having learned anything.
    WishesUnasked => "wishes_are_for_neighbours_and_few";
    /// Carries a restore time that is not a number into the value.
    StumblesOverOddFigures => "odd_figures_do_no_harm";
    /// Computes nonsense for a row that was not used for five years.
    StumblesOverTime => "time_that_stands_still_or_jumps_does_no_harm";
    /// Does not count pinned rows.
    CountsWrong => "len_is_the_number_of_hot_rows";
    /// Does not hear removals.
    KeepsRemoved => "removed_rows_are_forgotten";
    /// Takes a missed row for a hot one.
    TakesUpWhatIsCold => "unknown_rows_are_no_error";
    /// Ignores accesses of rows it was not told to be hot.
    IgnoresUnknown => "unknown_rows_that_are_hot_are_taken_up";
    /// Takes a new version for a row without a past.
    LosesHistory => "a_new_version_takes_over_the_history";
    /// Forecasts no growth.
    ForecastsTooLittle => "bytes_stay_below_their_forecast";
    /// Takes 100 bytes a row.
    TakesTooMuch => "bytes_for_each_hot_row_are_bounded";
    /// Claims to take nothing.
    ClaimsNoMemory => "bytes_for_each_hot_row_are_bounded";
    /// Remembers every row that ever was.
    RemembersEverything => "history_is_bounded";
    /// Uses something that did not come in from outside.
    DrawsFromElsewhere => "same_seed_and_events_give_same_answers";
    /// Counts questions, and answers accordingly.
    ChangesWhenAsked => "asking_for_an_explanation_changes_nothing";
    /// Does not save pins.
    ForgetsWhenSaved => "loading_gives_the_same_answers";
    /// Overwrites what is in the buffer.
    OverwritesWhenSaving => "saving_appends_and_loading_replaces";
    /// Adds the loaded rows to those it has.
    AddsWhenLoading => "saving_appends_and_loading_replaces";
    /// Saves no checksum, and reads what it can.
    TrustsBytes => "damaged_books_are_corrupt_and_leave_none";
    /// Keeps its old books when new ones are damaged.
    KeepsBooksAfterDamage => "damaged_books_are_corrupt_and_leave_none";
    /// Panics when bytes are too few.
    PanicsOnDamage => "random_bytes_are_corrupt";
    /// Calls damage a bug.
    MistakesDamage => "random_bytes_are_corrupt";
    /// Has no figures.
    ExplainsNothing => "hot_rows_are_explained";
    /// Explains another value than it acts on.
    ExplainsAnotherValue => "hot_rows_are_explained";
    /// Tells parts of the worth that are not what it is made of.
    ExplainsWrongParts => "hot_rows_are_explained";
    /// Claims to know rows it never heard of.
    KnowsEveryone => "unknown_rows_are_explained_as_unknown";
    /// Lists no options but takes one.
    HidesAnOption => "options_match";
    /// Claims to outlive the process.
    ClaimsToPersist => "descriptor_is_complete";
}
