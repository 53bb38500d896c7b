//! Which plug-ins there are: a value that is discovered, added to and looked up; nothing global is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Slot, nearest};
use crate::error::{Error, Result};
use crate::plugin::{BuildContext, Factory, Plugin, Registered, Role};
use crate::role::{Codec, CodecId, ColdStore, EvictionPolicy, HotIndex, MetaStore};

/// Names this repository has a plug-in for, and the facade's feature that compiles it in. Only for better messages.
const KNOWN: &[(Role, &str, &str)] = &[
    (Role::Hot, "auto", "hot-auto"),
    (Role::Hot, "flat", "hot-flat"),
    (Role::Hot, "hnsw", "hot-hnsw"),
    (Role::Cold, "memory", "cold-memory"),
    (Role::Cold, "file", "cold-file"),
    (Role::Cold, "object-store", "cold-object-store"),
    (Role::Cold, "cached", "cold-cached"),
    (Role::Cold, "simulated-s3", "cold-simulated-s3"),
    (Role::Meta, "memory", "meta-memory"),
    (Role::Meta, "redb", "meta-redb"),
    (Role::Meta, "sled", "meta-sled"),
    (Role::Codec, "raw", "codec-raw"),
    (Role::Codec, "lz4", "codec-lz4"),
    (Role::Codec, "zstd", "codec-zstd"),
    (Role::Codec, "f16", "codec-f16"),
    (Role::Codec, "sq8", "codec-sq8"),
    (Role::Policy, "flux", "policy-flux"),
    (Role::Policy, "lru", "policy-lru"),
    (Role::Policy, "lfu", "policy-lfu"),
    (Role::Policy, "age", "policy-age"),
    (Role::Policy, "arc", "policy-arc"),
    (Role::Policy, "cacheus", "policy-cacheus"),
    (Role::Policy, "classic-flux", "policy-classic-flux"),
    (Role::Policy, "clock", "policy-clock"),
    (Role::Policy, "fifo", "policy-fifo"),
    (Role::Policy, "gdsf", "policy-gdsf"),
    (Role::Policy, "hyperbolic", "policy-hyperbolic"),
    (Role::Policy, "lecar", "policy-lecar"),
    (Role::Policy, "lirs", "policy-lirs"),
    (Role::Policy, "mq", "policy-mq"),
    (Role::Policy, "random", "policy-random"),
    (Role::Policy, "s3-fifo", "policy-s3-fifo"),
    (Role::Policy, "sieve", "policy-sieve"),
    (Role::Policy, "ttl-idle", "policy-ttl-idle"),
    (Role::Policy, "two-q", "policy-two-q"),
    (Role::Policy, "w-tinylfu", "policy-w-tinylfu"),
];

/// A set of plug-ins, sorted by role and name.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    plugins: BTreeMap<(Role, &'static str), &'static Plugin>,
}

impl Registry {
    /// A registry without plug-ins.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Every plug-in that was linked into this program and announced by [`register!`](crate::register).
    ///
    /// # Errors
    /// `Config` when two crates announce one name for one role, or two codecs one number.
    pub fn discover() -> Result<Self> {
        let mut registry = Self::empty();
        for Registered(plugin) in inventory::iter::<Registered> {
            registry.add(plugin)?;
        }
        Ok(registry)
    }

    /// Adds a plug-in. Adding the same `static` again changes nothing.
    ///
    /// # Errors
    /// `Config` when another plug-in has its role and name, or its codec number, or when the name is not made of
    /// lower-case letters, digits and `-`.
    pub fn add(&mut self, plugin: &'static Plugin) -> Result<()> {
        let role = plugin.role();
        let byte_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if plugin.name.is_empty() || !plugin.name.bytes().all(byte_ok) {
            return Err(Error::config(format!(
                "{role} plug-in of crate {}: expected a name of a-z, 0-9 and '-', got {:?}",
                plugin.crate_name, plugin.name
            )));
        }
        if let Some(present) = self.plugins.get(&(role, plugin.name)) {
            if std::ptr::eq(*present, plugin) {
                return Ok(());
            }
            return Err(Error::config(format!(
                "two plug-ins named {:?} for role {role}, from crates {} and {}: rename one or leave one out",
                plugin.name, present.crate_name, plugin.crate_name
            )));
        }
        if let Factory::Codec(id, _) = plugin.factory
            && let Some(other) = self.codec_plugin(id)
        {
            return Err(Error::config(format!(
                "codecs {:?} of crate {} and {:?} of crate {} both claim number {}: give one another number",
                other.name, other.crate_name, plugin.name, plugin.crate_name, id.0
            )));
        }
        self.plugins.insert((role, plugin.name), plugin);
        Ok(())
    }

    /// All plug-ins, sorted by role and name.
    pub fn iter(&self) -> impl Iterator<Item = &'static Plugin> {
        self.plugins.values().copied()
    }

    /// The plug-in of a role and name.
    ///
    /// # Errors
    /// `Config`, with the names there are, the nearest one, and the feature that would add a known one.
    pub fn get(&self, role: Role, name: &str) -> Result<&'static Plugin> {
        if let Some((_, plugin)) = self
            .plugins
            .iter()
            .find(|((r, n), _)| *r == role && *n == name)
        {
            return Ok(plugin);
        }
        let names: Vec<&str> = self
            .plugins
            .keys()
            .filter(|(r, _)| *r == role)
            .map(|(_, n)| *n)
            .collect();
        let listed = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        let mut message = format!(
            "unknown {role} plug-in {name:?}: expected one of those compiled in ({listed})"
        );
        if let Some((_, _, feature)) = KNOWN.iter().find(|(r, n, _)| *r == role && *n == name) {
            message.push_str(&format!("; build with feature {feature:?} to add it"));
        } else if let Some(near) = nearest(name, names.iter().copied()) {
            message.push_str(&format!("; did you mean {near:?}?"));
        }
        Err(Error::config(message))
    }

    /// Whether what a store keeps survives the process: a wrapper keeps what the store inside keeps.
    ///
    /// # Errors
    /// `Config` for an unknown name.
    pub fn persistent(&self, slot: &Slot) -> Result<bool> {
        let kept = self.find(slot.role, slot)?.persistent;
        Ok(match slot.inner()? {
            Some(inner) => kept && self.persistent(&inner)?,
            None => kept,
        })
    }

    fn codec_plugin(&self, id: CodecId) -> Option<&'static Plugin> {
        self.iter()
            .find(|p| matches!(p.factory, Factory::Codec(i, _) if i == id))
    }

    /// Builds the hot index that a slot names.
    ///
    /// # Errors
    /// `Config` for an unknown name or wrong keys; whatever the factory says otherwise. So for the other roles.
    pub fn hot(&self, slot: &Slot, context: &BuildContext) -> Result<Arc<dyn HotIndex>> {
        match self.find(Role::Hot, slot)?.factory {
            Factory::Hot(build) => build(&slot.raw, context),
            _ => Err(wrong_role(slot)),
        }
    }

    /// Opens the cold store that a slot names.
    ///
    /// # Errors
    /// As [`Registry::hot`].
    pub fn cold(&self, slot: &Slot, context: &BuildContext) -> Result<Arc<dyn ColdStore>> {
        match self.find(Role::Cold, slot)?.factory {
            Factory::Cold(build) => build(&slot.raw, context),
            _ => Err(wrong_role(slot)),
        }
    }

    /// Opens the metadata store that a slot names.
    ///
    /// # Errors
    /// As [`Registry::hot`].
    pub fn meta(&self, slot: &Slot, context: &BuildContext) -> Result<Arc<dyn MetaStore>> {
        match self.find(Role::Meta, slot)?.factory {
            Factory::Meta(build) => build(&slot.raw, context),
            _ => Err(wrong_role(slot)),
        }
    }

    /// Builds the codec that a slot names.
    ///
    /// # Errors
    /// As [`Registry::hot`].
    pub fn codec(&self, slot: &Slot, context: &BuildContext) -> Result<Arc<dyn Codec>> {
        match self.find(Role::Codec, slot)?.factory {
            Factory::Codec(_, build) => build(&slot.raw, context),
            _ => Err(wrong_role(slot)),
        }
    }

    /// Builds the codec of a number found in stored data, with its default settings; `None` if it is not compiled in.
    ///
    /// # Errors
    /// Whatever the factory says.
    pub fn codec_by_id(
        &self,
        id: CodecId,
        context: &BuildContext,
    ) -> Result<Option<Arc<dyn Codec>>> {
        match self.codec_plugin(id).map(|p| (p.name, p.factory)) {
            Some((name, Factory::Codec(_, build))) => {
                build(&Slot::named(Role::Codec, name).raw, context).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Builds the policy that a slot names.
    ///
    /// # Errors
    /// As [`Registry::hot`].
    pub fn policy(&self, slot: &Slot, context: &BuildContext) -> Result<Box<dyn EvictionPolicy>> {
        match self.find(Role::Policy, slot)?.factory {
            Factory::Policy(build) => build(&slot.raw, context),
            _ => Err(wrong_role(slot)),
        }
    }

    fn find(&self, role: Role, slot: &Slot) -> Result<&'static Plugin> {
        self.get(role, &slot.backend)
            .map_err(|e| slot.at_backend(e))
    }
}

fn wrong_role(slot: &Slot) -> Error {
    Error::internal(format!(
        "plug-in {:?} was registered under another role",
        slot.backend
    ))
}
