//! How shadows are built, sized, written down and read back.

use std::collections::BTreeMap;

use super::Shadows;
use crate::config::{Config, Slot};
use crate::engine::inner::{Inner, row_bytes};
use crate::engine::record::key;
use crate::engine::turn::POLICY_PART;
use crate::error::{Error, Result};
use crate::flux::Fill;
use crate::plugin::{BuildContext, Role};
use crate::registry::Registry;
use crate::role::{Batch, KeyRange, Table};

/// The shadows that a configuration names, with empty books.
pub(in crate::engine) fn build(
    config: &Config,
    registry: &Registry,
    context: &BuildContext,
    dim: usize,
) -> Result<Shadows> {
    let mut policies = Vec::new();
    for name in &config.shadow.policies {
        if policies.iter().any(|(n, _)| n == name) {
            return Err(Error::config(format!(
                "[shadow] policies: expected each name once, got {name:?} twice"
            )));
        }
        let slot = Slot::named(Role::Policy, name);
        policies.push((name.clone(), registry.policy(&slot, context)?));
    }
    let batch = config.flux.batch_rows;
    Ok(Shadows::new(
        &config.shadow,
        batch,
        row_bytes(dim),
        policies,
    ))
}

impl Inner {
    /// Lets the shadows' tiers follow the live one.
    pub(in crate::engine) fn resize_shadows(&self, fill: Fill) {
        if self.config.shadow.policies.is_empty() {
            return;
        }
        let read_us = self.blocks.read_us();
        self.desk
            .with_shadows(|shadows| shadows.resize(fill.capacity(), read_us));
    }

    /// Adds the shadows' books to a batch, in place of the former ones; answers their bytes.
    pub(in crate::engine) async fn put_shadows(&self, batch: &mut Batch) -> Result<u64> {
        let range = KeyRange::prefix(key::SHADOW);
        let old = self.meta.scan(Table::State, range, 1 << 20).await?;
        old.into_iter()
            .for_each(|(k, _)| batch.delete(Table::State, k));
        let mut bytes = 0;
        for (name, books) in self.desk.with_shadows(|shadows| shadows.save()) {
            bytes += books.len() as u64;
            for (part, piece) in books.chunks(POLICY_PART).enumerate() {
                batch.put(Table::State, key::shadow(&name, part), piece.to_vec());
            }
        }
        Ok(bytes)
    }

    /// Gives the shadows their books back. One whose books are damaged or of other settings begins anew.
    pub(in crate::engine) async fn load_shadows(&self) -> Result<()> {
        if self.config.shadow.policies.is_empty() {
            return Ok(());
        }
        let range = KeyRange::prefix(key::SHADOW);
        let mut saved: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (k, part) in self.meta.scan(Table::State, range, 1 << 20).await? {
            let name = k.get(key::SHADOW.len()..).unwrap_or_default();
            let name = String::from_utf8_lossy(name);
            let (name, _) = name.split_once('/').unwrap_or_default();
            let books = saved.entry(name.to_owned()).or_default();
            books.extend_from_slice(&part);
        }
        for (name, books) in saved {
            if let Err(error) = self.desk.with_shadows(|s| s.load(&name, &books)) {
                tracing::warn!(%error, shadow = name, "a shadow begins with empty books");
            }
        }
        Ok(())
    }
}
