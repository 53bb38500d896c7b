//! Fakes of the meta role: [`StrictMeta`] loses whatever was not made durable, [`FaultyMeta`] fails where it is told to,
//! [`BrokenMeta`] is wrong on purpose.
//!
//! ```
//! use std::sync::Arc;
//! use aether_core::role::{Batch, MetaStore, Table};
//! use aether_testkit::fake::meta::{Fault, StrictMeta};
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = StrictMeta::new();
//! let mut batch = Batch::new(store.claim().await?);
//! batch.put(Table::State, &b"k"[..], &b"v"[..]);
//! let seq = store.commit(batch).await?;
//! let lost = store.crash(); // the commit was never made durable
//! assert_eq!(lost.get(Table::State, &["k".into()]).await?, [None]);
//!
//! // Every operation from the third commit on meets a dead process.
//! let store = StrictMeta::new();
//! store.set_hook(Arc::new(|op, n| if op == "commit" && n == 3 { Fault::Die } else { Fault::None }));
//! # assert!(seq.0 > 0); Ok::<_, aether_core::Error>(()) }).unwrap();
//! ```

mod broken;
mod fault;
mod strict;

pub use broken::{Break, BrokenMeta};
pub use fault::{Fault, FaultyMeta, Hook};
pub use strict::StrictMeta;
