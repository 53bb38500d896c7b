//! Policies that decide what leaves Aether's hot tier and what enters it: one module and one feature each.
//!
//! | policy | keeps | choose it when |
//! |---|---|---|
//! | `flux` | what is likely to be used again, judged useful and dear to miss | in doubt: it is the default |
//! | `lru` | what was used last | uses of a row come close together |
//! | `lfu` | what is used often, of late if aged | a stable set of rows is popular and scans pass by |
//! | `age` | what was used within a set time | moves should follow the clock, not the budget |
//! | `ttl-idle` | what was used, and came, within set times | rows must not stay beyond a time, each on its own |
//! | `fifo`, `random` | what came last, or anything | a yardstick is wanted |
//! | `clock`, `sieve`, `s3-fifo` | what was used again | uses must cost next to nothing |
//! | `two-q`, `arc`, `mq`, `lirs` | what was used twice, by distance or number | scans and loops mix with repeated use |
//! | `w-tinylfu` | what an estimate of frequency prefers | popularity is skewed and rows pass that are used once |
//! | `gdsf`, `hyperbolic` | what has most uses for its bytes, or its time | rows differ in size; popularity fades |
//! | `lecar`, `cacheus` | what one of two experts keeps, at learned odds | it is not known whether last use or frequency tells more |
//! | `classic-flux` | the plain sum of four terms | a fixed, readable formula is wanted |

#![forbid(unsafe_code)]

#[cfg(any(
    feature = "age",
    feature = "arc",
    feature = "cacheus",
    feature = "classic-flux",
    feature = "clock",
    feature = "fifo",
    feature = "flux",
    feature = "gdsf",
    feature = "hyperbolic",
    feature = "lecar",
    feature = "lfu",
    feature = "lirs",
    feature = "lru",
    feature = "mq",
    feature = "random",
    feature = "s3-fifo",
    feature = "sieve",
    feature = "ttl-idle",
    feature = "two-q",
    feature = "w-tinylfu",
))]
#[cfg_attr(
    not(all(
        feature = "age",
        feature = "arc",
        feature = "cacheus",
        feature = "classic-flux",
        feature = "clock",
        feature = "fifo",
        feature = "flux",
        feature = "gdsf",
        feature = "hyperbolic",
        feature = "lecar",
        feature = "lfu",
        feature = "lirs",
        feature = "lru",
        feature = "mq",
        feature = "random",
        feature = "s3-fifo",
        feature = "sieve",
        feature = "ttl-idle",
        feature = "two-q",
        feature = "w-tinylfu",
    )),
    allow(
        dead_code,
        unused_imports,
        reason = "each policy uses a part of the shared books; with all features on, every part is used"
    )
)]
mod books;

#[cfg(feature = "age")]
pub mod age;
#[cfg(feature = "arc")]
pub mod arc;
#[cfg(feature = "cacheus")]
pub mod cacheus;
#[cfg(feature = "classic-flux")]
pub mod classic_flux;
#[cfg(feature = "clock")]
pub mod clock;
#[cfg(feature = "fifo")]
pub mod fifo;
#[cfg(feature = "flux")]
pub mod flux;
#[cfg(feature = "gdsf")]
pub mod gdsf;
#[cfg(feature = "hyperbolic")]
pub mod hyperbolic;
#[cfg(feature = "lecar")]
pub mod lecar;
#[cfg(feature = "lfu")]
pub mod lfu;
#[cfg(feature = "lirs")]
pub mod lirs;
#[cfg(feature = "lru")]
pub mod lru;
#[cfg(feature = "mq")]
pub mod mq;
#[cfg(feature = "random")]
pub mod random;
#[cfg(feature = "s3-fifo")]
pub mod s3_fifo;
#[cfg(feature = "sieve")]
pub mod sieve;
#[cfg(feature = "ttl-idle")]
pub mod ttl_idle;
#[cfg(feature = "two-q")]
pub mod two_q;
#[cfg(feature = "w-tinylfu")]
pub mod w_tinylfu;
