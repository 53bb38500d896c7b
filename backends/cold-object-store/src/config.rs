//! The keys of `[cold]` with `backend = "object-store"`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aether_core::config::{RawConfig, Span};
use aether_core::plugin::OptionSpec;
use aether_core::{Error, Result};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use url::Url;

/// Settings of the object store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectStoreConfig {
    /// Where the blobs are: service, bucket, prefix.
    pub url: String,
    /// How often a request is repeated.
    pub retries: usize,
    /// How long one attempt may take.
    pub timeout: Span,
    /// Most calls under way at once.
    pub requests: usize,
    /// Whether to try at opening that the store creates only.
    pub probe: bool,
    /// Settings of the service, among them credentials.
    pub options: StoreOptions,
}

impl Default for ObjectStoreConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            retries: 5,
            timeout: Span(Duration::from_secs(60)),
            requests: 32,
            probe: true,
            options: StoreOptions::default(),
        }
    }
}

impl ObjectStoreConfig {
    pub(crate) const OPTIONS: &[OptionSpec] = &[
        OptionSpec {
            name: "url",
            default: "",
            unit: "",
            help: "Where the blobs are: \"s3://bucket/prefix\", \"gs://bucket/prefix\", \"az://container/prefix\", \
                   \"file:///folder\", \"memory:///\". Must be given.",
        },
        OptionSpec {
            name: "retries",
            default: "5",
            unit: "",
            help: "How often a request is repeated, with growing pauses, before the call fails; services only.",
        },
        OptionSpec {
            name: "timeout",
            default: "\"60s\"",
            unit: "duration",
            help: "How long one attempt may take, the transfer of a whole blob included; services only.",
        },
        OptionSpec {
            name: "requests",
            default: "32",
            unit: "calls",
            help: "Most calls under way at once; more wait.",
        },
        OptionSpec {
            name: "probe",
            default: "true",
            unit: "",
            help: "Try at opening that the store refuses to create one object twice, and do not open one that does not.",
        },
        OptionSpec {
            name: "options",
            default: "",
            unit: "",
            help: "A table of settings as the object_store crate names them, such as { region = \"eu-central-1\" }; \
                   credentials better come from the environment.",
        },
    ];

    /// Reads and checks the keys.
    ///
    /// # Errors
    /// `Config`, pointing at the key; never showing the line of `options`, which may hold a secret.
    pub fn read(raw: &RawConfig) -> Result<Self> {
        let config: Self = raw.parse()?;
        if let Some(problem) = &config.options.problem {
            return Err(Error::config(format!(
                "[{}] options: {problem}",
                raw.path()
            )));
        }
        let check = |key: &str, ok: bool, expected: &str, got: &dyn fmt::Display| {
            if ok {
                return Ok(());
            }
            Err(raw.error(key, format!("expected {expected}, got {got}")))
        };
        check("retries", config.retries <= 20, "0 to 20", &config.retries)?;
        let timeout = config.timeout.0;
        let sane = timeout >= Duration::from_millis(100) && timeout <= Duration::from_secs(3600);
        check("timeout", sane, "\"100ms\" to \"1h\"", &config.timeout)?;
        let requests = config.requests;
        check(
            "requests",
            (1..=1024).contains(&requests),
            "1 to 1024",
            &requests,
        )?;
        config.parsed_url().map_err(|e| {
            // A URL may hold a secret where it should not; then its line is not shown.
            if config.url.contains(['?', '@']) {
                return Error::config(format!("[{}] url: {e}", raw.path()));
            }
            raw.error("url", e)
        })?;
        Ok(config)
    }

    /// The URL, free of anything that would be a secret or that would not count.
    pub(crate) fn parsed_url(&self) -> Result<Url, String> {
        const EXPECTED: &str = "expected \"s3://bucket/prefix\", \"gs://bucket/prefix\", \"az://container/prefix\", \
                                \"file:///folder\" or \"memory:///\"";
        if self.url.is_empty() {
            return Err(format!("{EXPECTED}, got nothing"));
        }
        let url = Url::parse(&self.url).map_err(|e| format!("{EXPECTED}; this is no URL: {e}"))?;
        if url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "{EXPECTED} without a password, '?' or '#': put credentials into the environment or into `options`"
            ));
        }
        Ok(url)
    }
}

/// Settings of the service by name. Their values are in no `Debug` and no message.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreOptions {
    by_name: BTreeMap<String, String>,
    problem: Option<String>,
}

impl StoreOptions {
    /// The settings by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pair = |(name, value): (_, _)| (String::as_str(name), String::as_str(value));
        self.by_name.iter().map(pair)
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = self.by_name.keys().map(|name| (name, "hidden"));
        f.debug_map().entries(hidden).finish()
    }
}

/// A text, a number or a truth value as text; `None` for anything else.
struct OptionValue(Option<String>);

macro_rules! scalars {
    ($($visit:ident $kind:ty;)*) => {$(
        fn $visit<E>(self, value: $kind) -> Result<OptionValue, E> {
            Ok(OptionValue(Some(value.to_string())))
        }
    )*};
}

/// Takes whatever comes: an error of the deserialiser would show the line, and the secret in it.
impl<'de> Deserialize<'de> for OptionValue {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = OptionValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or a truth value")
            }

            scalars! {
                visit_str &str;
                visit_bool bool;
                visit_i64 i64;
                visit_u64 u64;
                visit_f64 f64;
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OptionValue, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(OptionValue(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OptionValue, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(OptionValue(None))
            }
        }
        d.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for StoreOptions {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Table;

        fn no_table<E>() -> Result<StoreOptions, E> {
            Ok(StoreOptions {
                by_name: BTreeMap::new(),
                problem: Some("expected a table such as { region = \"eu-central-1\" }".to_owned()),
            })
        }

        macro_rules! refused {
            ($($visit:ident $kind:ty;)*) => {$(
                fn $visit<E>(self, _: $kind) -> Result<StoreOptions, E> {
                    no_table()
                }
            )*};
        }

        impl<'de> Visitor<'de> for Table {
            type Value = StoreOptions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            refused! {
                visit_str &str;
                visit_bool bool;
                visit_i64 i64;
                visit_u64 u64;
                visit_f64 f64;
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StoreOptions, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                no_table()
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StoreOptions, A::Error> {
                let mut options = StoreOptions::default();
                while let Some((name, value)) = map.next_entry::<String, OptionValue>()? {
                    match value.0 {
                        Some(value) => {
                            options.by_name.insert(name, value);
                        }
                        None => {
                            let expected = "expected a text, a number or a truth value";
                            options.problem = Some(format!("{name}: {expected}"));
                        }
                    }
                }
                Ok(options)
            }
        }
        d.deserialize_any(Table)
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
