//! Policies that decide what leaves Aether's hot tier and what enters it: one module and one feature each.
//!
//! | policy | keeps | choose it when |
//! |---|---|---|
//! | `flux` | what is likely to be used again, judged useful and dear to miss | in doubt: it is the default |
//! | `lru` | what was used last | uses of a row come close together |
//! | `lfu` | what is used often of late | a stable set of rows is popular and scans pass by |
//! | `age` | what was used within a set time | moves should follow the clock, not the budget |

#![forbid(unsafe_code)]

#[cfg(any(feature = "flux", feature = "lru", feature = "lfu", feature = "age"))]
#[cfg_attr(
    not(all(feature = "flux", feature = "lru", feature = "lfu", feature = "age")),
    allow(
        dead_code,
        unused_imports,
        reason = "each policy uses a part of the shared books; with all features on, every part is used"
    )
)]
mod books;

#[cfg(feature = "age")]
pub mod age;
#[cfg(feature = "flux")]
pub mod flux;
#[cfg(feature = "lfu")]
pub mod lfu;
#[cfg(feature = "lru")]
pub mod lru;
