//! A cold store from outside Aether's repository: spreads blobs over several folders, such as one on each disk.
//!
//! A plug-in is a `static` [`Plugin`] with a factory, announced by `register!`. It depends on `aether-core` alone; this one builds others
//! through the registry that its factory is given.

#![forbid(unsafe_code)]

mod config;
mod store;

use std::sync::Arc;

use aether_core::config::{RawConfig, Slot};
use aether_core::role::ColdStore;
use aether_core::{BuildContext, Factory, Plugin, Result, Role};

pub use config::SpreadConfig;
pub use store::Spread;

/// The cold store `spread`.
pub static PLUGIN: Plugin = Plugin {
    // The name in `backend = "spread"`.
    name: "spread",
    crate_name: env!("CARGO_PKG_NAME"),
    summary: "Spreads blobs over several folders, each kept by another cold store.",
    options: SpreadConfig::OPTIONS,
    // What it keeps survives the process: the engine then locks the memory's folder.
    persistent: true,
    factory: Factory::Cold(open),
};

// From here on every `Registry::discover` of a program that this crate is linked into finds the store.
aether_core::register!(PLUGIN);

fn open(raw: &RawConfig, context: &BuildContext) -> Result<Arc<dyn ColdStore>> {
    let config = SpreadConfig::read(raw)?;
    let inner = |folder| {
        // The same context but for the folder: clock, seed and `read_only` hold for the inner store, too.
        let context = BuildContext {
            data_dir: Some(folder),
            ..context.clone()
        };
        context
            .registry
            .cold(&Slot::named(Role::Cold, config.over.as_str()), &context)
    };
    let folders = config.folders(raw, context.data_dir.as_deref())?;
    let stores = folders.into_iter().map(inner).collect::<Result<_>>()?;
    Ok(Arc::new(Spread::new(stores)))
}
