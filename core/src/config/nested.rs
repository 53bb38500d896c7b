//! Plug-ins that wrap another: the table `inner` of a slot names the one inside.

use super::{DEFAULTS, RawConfig, Setting, Slot};
use crate::error::Result;
use crate::plugin::Role;
use crate::registry::Registry;

/// The table that names the plug-in inside.
const INNER: &str = "inner";

impl Slot {
    /// The slot of the plug-in that a wrapper of `role` with these keys wraps; the role's default where none is named.
    ///
    /// # Errors
    /// `Config` when `inner` is not a table, or its `backend` not a text.
    pub fn inner_of(role: Role, raw: &RawConfig) -> Result<Self> {
        let path = format!("{}.{INNER}", raw.path());
        let table = raw.clone().take_table(INNER)?;
        let table = table.unwrap_or_else(|| RawConfig::empty(path));
        let default = DEFAULTS.iter().find(|(r, _)| *r == role);
        Self::from_table(role, table, default.map_or("", |(_, name)| name))
    }

    /// The slot that this one's table `inner` writes down; `None` if it has no such table.
    ///
    /// # Errors
    /// As [`Slot::inner_of`].
    pub fn inner(&self) -> Result<Option<Self>> {
        if self.raw.keys().any(|key| key == INNER) {
            return Self::inner_of(self.role, &self.raw).map(Some);
        }
        Ok(None)
    }

    /// Looks this plug-in up, and those that it wraps.
    pub(super) fn check_names(&self, registry: &Registry) -> Result<()> {
        let found = registry.get(self.role, &self.backend);
        found.map_err(|e| self.at_backend(e))?;
        match self.inner()? {
            Some(inner) => inner.check_names(registry),
            None => Ok(()),
        }
    }

    /// The effective settings of this plug-in, and of those that it wraps.
    pub(super) fn settings(&self, registry: &Registry, settings: &mut Vec<Setting>) {
        let table = self.raw.path().to_owned();
        settings.push(Setting {
            table: table.clone(),
            key: "backend".to_owned(),
            value: format!("{:?}", self.backend),
            origin: self.backend_origin(),
        });
        let plugin = registry.get(self.role, &self.backend);
        // A broken table was refused before anybody asks for what is in force.
        let inner = self.inner().ok().flatten();
        for option in plugin.map_or(&[][..], |p| p.options) {
            if inner.is_some() && option.name == INNER {
                continue;
            }
            settings.push(Setting {
                table: table.clone(),
                key: option.name.to_owned(),
                value: match self.raw.text(option.name) {
                    None => option.default.to_owned(),
                    // A free table of keys for another library may hold credentials.
                    Some(text) if text.starts_with('{') => {
                        "{ … } (not shown: it may hold secrets)".to_owned()
                    }
                    Some(text) => text,
                },
                origin: self.raw.origin(option.name),
            });
        }
        if let Some(inner) = inner {
            inner.settings(registry, settings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapper_names_the_one_inside_or_has_the_default() {
        let keys = "scale = 0\n[inner]\nbackend = \"a\"\n[inner.inner]\nbackend = \"b\"\n";
        let slot = Slot::with_keys(Role::Cold, "outer", keys).unwrap();
        let inner = slot.inner().unwrap().unwrap();
        assert_eq!(
            (inner.backend.as_str(), inner.raw.path()),
            ("a", "cold.inner")
        );
        let innermost = inner.inner().unwrap().unwrap();
        assert_eq!(innermost.backend, "b");
        assert!(innermost.inner().unwrap().is_none());
        let plain = RawConfig::empty("cold");
        let inner = Slot::inner_of(Role::Cold, &plain).unwrap();
        assert_eq!(
            (inner.backend.as_str(), inner.raw.path()),
            ("file", "cold.inner")
        );
        let error = Slot::with_keys(Role::Cold, "outer", "inner = 3").unwrap();
        assert!(error.inner().unwrap_err().is_config());
    }
}
