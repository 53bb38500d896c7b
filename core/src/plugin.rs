//! How an implementation announces itself: a [`Plugin`] descriptor and [`register!`](crate::register).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::RawConfig;
use crate::error::Result;
use crate::registry::Registry;
use crate::role::{Codec, CodecId, ColdStore, EvictionPolicy, HotIndex, MetaStore};
use crate::vector::Metric;

#[doc(hidden)]
pub use inventory;

/// The part that a plug-in plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A [`HotIndex`], chosen by `[hot]`.
    Hot,
    /// A [`ColdStore`], chosen by `[cold]`.
    Cold,
    /// A [`MetaStore`], chosen by `[meta]`.
    Meta,
    /// A [`Codec`], chosen by `[codec]`.
    Codec,
    /// An [`EvictionPolicy`], chosen by `[policy]`.
    Policy,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 5] = [Role::Hot, Role::Cold, Role::Meta, Role::Codec, Role::Policy];

    /// The role's name, which is also its table in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Cold => "cold",
            Self::Meta => "meta",
            Self::Codec => "codec",
            Self::Policy => "policy",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One key that a plug-in reads from its table. Must name every field of the plug-in's configuration struct: the
/// conformance suite compares the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OptionSpec {
    /// The key.
    pub name: &'static str,
    /// The default as it would be written in TOML; `""` if the key has none and may be left out.
    pub default: &'static str,
    /// The unit, as `rows`, `bytes`; empty if there is none.
    pub unit: &'static str,
    /// One sentence on what it does.
    pub help: &'static str,
}

/// What a factory may use besides its own keys.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// Dimension of every vector.
    pub dim: usize,
    /// The memory's metric.
    pub metric: Metric,
    /// The memory's folder. A plug-in that keeps files puts them in a sub-folder or file named after its role. `None` for a
    /// memory that keeps nothing: a plug-in that needs a folder answers `Config`.
    pub data_dir: Option<PathBuf>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from: seed a generator of your own with it.
    pub seed: u64,
    /// Open for reading only: create, repair and lock nothing. What has no such way answers `Unsupported`.
    pub read_only: bool,
    /// Bytes that the hot tier may take at most, index, directory and the policy's books together; `None` where nobody bounds it.
    pub hot_budget: Option<u64>,
    /// The other plug-ins, for one that wraps another.
    pub registry: Arc<Registry>,
}

/// Makes an instance. A plain function; may block (the engine calls it off the async workers).
#[derive(Clone, Copy)]
pub enum Factory {
    /// Makes an empty hot index.
    Hot(fn(&RawConfig, &BuildContext) -> Result<Arc<dyn HotIndex>>),
    /// Opens a cold store.
    Cold(fn(&RawConfig, &BuildContext) -> Result<Arc<dyn ColdStore>>),
    /// Opens a metadata store.
    Meta(fn(&RawConfig, &BuildContext) -> Result<Arc<dyn MetaStore>>),
    /// Makes a codec; the number is what [`Codec::id`] of every instance answers.
    Codec(
        CodecId,
        fn(&RawConfig, &BuildContext) -> Result<Arc<dyn Codec>>,
    ),
    /// Makes a policy with empty books.
    Policy(fn(&RawConfig, &BuildContext) -> Result<Box<dyn EvictionPolicy>>),
}

impl fmt::Debug for Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Factory::{:?}", self.role())
    }
}

impl Factory {
    /// The role of what it makes.
    pub fn role(&self) -> Role {
        match self {
            Self::Hot(_) => Role::Hot,
            Self::Cold(_) => Role::Cold,
            Self::Meta(_) => Role::Meta,
            Self::Codec(..) => Role::Codec,
            Self::Policy(_) => Role::Policy,
        }
    }
}

/// Describes one implementation: `pub static PLUGIN: Plugin = …; aether_core::register!(PLUGIN);`
#[derive(Debug)]
pub struct Plugin {
    /// Its name in `backend = "…"`: lower case, digits and `-`.
    pub name: &'static str,
    /// The crate it comes from: `env!("CARGO_PKG_NAME")`.
    pub crate_name: &'static str,
    /// One line for `aether plugins`.
    pub summary: &'static str,
    /// Every key it reads.
    pub options: &'static [OptionSpec],
    /// Whether what it keeps survives the process. Stores only; `false` for the other roles.
    pub persistent: bool,
    /// Makes an instance.
    pub factory: Factory,
}

impl Plugin {
    /// The role it plays.
    pub fn role(&self) -> Role {
        self.factory.role()
    }
}

/// A registered descriptor; made by [`register!`](crate::register).
#[doc(hidden)]
#[derive(Debug)]
pub struct Registered(pub &'static Plugin);

inventory::collect!(Registered);

/// Announces a `static` [`Plugin`] to every [`Registry::discover`] of the program it is linked into.
#[macro_export]
macro_rules! register {
    ($plugin:path) => {
        $crate::plugin::inventory::submit! { $crate::plugin::Registered(&$plugin) }
    };
}
