//! The five contracts between the engine and its plug-ins.
//!
//! | contract | held as | called from | may block |
//! |---|---|---|---|
//! | [`HotIndex`] | `Arc<dyn HotIndex>` | search threads and the writer, at the same time | CPU only |
//! | [`ColdStore`] | `Arc<dyn ColdStore>` | async tasks of searches, migration and recovery | never the async worker |
//! | [`MetaStore`] | `Arc<dyn MetaStore>` | async tasks; commits only from the one writer | never the async worker |
//! | [`Codec`] | `Arc<dyn Codec>` | search threads and migration | CPU only |
//! | [`EvictionPolicy`] | `Box<dyn EvictionPolicy>` | the flux alone, one call at a time | CPU only |
//!
//! Policies decide, the engine acts. Stores keep bytes and know nothing of vectors. No plug-in reads a clock or
//! draws a random number that did not come in through [`BuildContext`](crate::plugin::BuildContext).

mod codec;
mod cold_store;
mod eviction_policy;
mod hot_index;
mod meta_store;
mod usage;
mod work;

pub use codec::{ByteCodec, Codec, CodecId, Fidelity};
pub use cold_store::{BlobInfo, ColdStore};
pub use eviction_policy::{
    Context, Event, EvictionPolicy, Explanation, Figure, Item, PREFETCH_MAX, TOGETHER_MAX, Tier,
    Verdict, Want,
};
pub use hot_index::{
    HotCapability, HotChoice, HotIndex, HotStats, Neighbor, RowFilter, SearchOptions,
};
pub use meta_store::{
    Batch, Epoch, KeyRange, MetaCapability, MetaStore, Op, Precondition, Seq, Table,
};
pub use usage::{Usage, UsageCounter, runs};
pub use work::{SearchTally, SearchWork, WORK_LEVELS};
