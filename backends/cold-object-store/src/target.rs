//! From the URL to a store of the object_store crate.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use aether_core::{Error, Result};
use object_store::limit::LimitStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreScheme};
use url::Url;

use crate::config::ObjectStoreConfig;
use crate::error::{Effect, map};
use crate::names::Names;

/// Where the blobs are.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) names: Names,
    /// The folder of a local store, for syncing its names.
    pub(crate) folder: Option<PathBuf>,
    /// Whether connections belong to the runtime that made them.
    pub(crate) remote: bool,
}

/// Makes the client of the URL's store; talks to no service.
///
/// # Errors
/// `Config` for a URL or setting that is not understood, or a service whose feature is not compiled in.
pub(crate) fn connect(config: &ObjectStoreConfig, read_only: bool) -> Result<Target> {
    let url = config
        .parsed_url()
        .map_err(|e| Error::config(format!("url: {e}")))?;
    let (scheme, base) = ObjectStoreScheme::parse(&url).map_err(|e| {
        Error::config("url: expected s3, gs, az, file or memory as scheme, and a valid prefix")
            .with_source(e)
    })?;
    let mut target = Target {
        store: Arc::new(InMemory::new()),
        names: Names::Below(base),
        folder: None,
        remote: true,
    };
    match scheme {
        ObjectStoreScheme::Memory => {
            no_options(config)?;
            target.remote = false;
            tracing::warn!("blobs under memory:// are gone when the process ends");
        }
        ObjectStoreScheme::Local => {
            no_options(config)?;
            let folder = local_folder(&url, read_only)?;
            let store = LocalFileSystem::new_with_prefix(&folder);
            target.store = Arc::new(store.map_err(|e| map(e, Effect::None))?.with_fsync(true));
            target.names = Names::Flat;
            target.folder = Some(folder);
            target.remote = false;
        }
        ObjectStoreScheme::AmazonS3 => target.store = service::s3(&url, config)?,
        ObjectStoreScheme::GoogleCloudStorage => target.store = service::gcs(&url, config)?,
        ObjectStoreScheme::MicrosoftAzure => target.store = service::azure(&url, config)?,
        _ => {
            return Err(Error::config(format!(
                "url: expected s3, gs, az, file or memory as scheme, got {:?}; for a service that speaks S3 use s3://bucket/prefix \
                 and options = {{ endpoint = \"...\" }}",
                url.scheme()
            )));
        }
    }
    target.store = Arc::new(LimitStore::new(target.store, config.requests));
    Ok(target)
}

fn no_options(config: &ObjectStoreConfig) -> Result<()> {
    match config.options.iter().next() {
        None => Ok(()),
        Some((name, _)) => Err(Error::config(format!(
            "options: {name}: expected no settings for a local store, which has none: leave `options` out"
        ))),
    }
}

fn local_folder(url: &Url, read_only: bool) -> Result<PathBuf> {
    let folder = url.to_file_path().map_err(|()| {
        Error::config("url: expected \"file:///\" and the absolute path of a folder")
    })?;
    if folder.is_dir() {
        return Ok(folder);
    }
    if folder.exists() {
        return Err(Error::config(format!(
            "url: {}: expected a folder, got a file",
            folder.display()
        )));
    }
    if read_only {
        return Err(Error::unavailable(format!(
            "{}: there is no such folder, and open for reading only none is made",
            folder.display()
        )));
    }
    make_durable_folder(&folder).map_err(|e| {
        Error::unavailable(format!("{}: the folder cannot be made", folder.display()))
            .with_source(e)
    })?;
    Ok(folder)
}

/// Makes a folder and those above it that are missing, and syncs the parent of each.
fn make_durable_folder(folder: &FilePath) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(parent) = folder.parent() else {
        return Ok(());
    };
    make_durable_folder(parent)?;
    match std::fs::create_dir(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    sync_folder(parent)
}

/// Makes the names in a folder survive a power cut. Waits for the disk.
pub(crate) fn sync_folder(folder: &FilePath) -> std::io::Result<()> {
    // Windows cannot open a folder; its file systems keep names in their journal.
    if cfg!(unix) {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod service {
    use std::time::Duration;

    use object_store::{BackoffConfig, RetryConfig};

    use super::{Arc, Error, ObjectStore, ObjectStoreConfig, Result, Url};

    /// The most time that repetitions of one request take; credentials must live as long.
    const RETRY_MAX: Duration = Duration::from_secs(180);

    fn retry(config: &ObjectStoreConfig) -> RetryConfig {
        let attempts = u32::try_from(config.retries)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: config.retries,
            retry_timeout: config.timeout.0.saturating_mul(attempts).min(RETRY_MAX),
        }
    }

    /// The TLS of the services wants to be told which cryptography to use, once for the process.
    fn use_ring() {
        use rustls::crypto::{CryptoProvider, ring};
        if CryptoProvider::get_default().is_none()
            && ring::default_provider().install_default().is_err()
        {
            tracing::debug!("another thread chose the cryptography of TLS first");
        }
    }

    fn unknown(name: &str, service: &str, error: object_store::Error) -> Error {
        let message = format!(
            "options: {name}: expected a setting of {service} as the object_store crate names it, got an unknown one"
        );
        Error::config(message).with_source(error)
    }

    macro_rules! service {
        ($make:ident, $feature:literal, $service:literal, $builder:path, $key:path, [$($more:expr),*]) => {
            #[cfg(feature = $feature)]
            pub(super) fn $make(url: &Url, config: &ObjectStoreConfig) -> Result<Arc<dyn ObjectStore>> {
                use $builder as Builder;
                use $key as Key;

                use_ring();
                let timeout = format!("{}ms", config.timeout.0.as_millis());
                let own: &[(&str, &str)] = &[("timeout", &timeout), $($more),*];
                // Environment first, then this table's keys, then what the user spelled out.
                let mut builder = Builder::from_env().with_url(url.as_str()).with_retry(retry(config));
                for (name, value) in own.iter().copied().chain(config.options.iter()) {
                    let key: Key = name.to_ascii_lowercase().parse().map_err(|e| unknown(name, $service, e))?;
                    builder = builder.with_config(key, value);
                }
                let store = builder.build().map_err(|e| {
                    Error::config(concat!("url, options or environment: not enough for ", $service)).with_source(e)
                })?;
                Ok(Arc::new(store))
            }

            #[cfg(not(feature = $feature))]
            pub(super) fn $make(_url: &Url, _config: &ObjectStoreConfig) -> Result<Arc<dyn ObjectStore>> {
                Err(super::missing($service, $feature))
            }
        };
    }

    service!(
        s3,
        "s3",
        "S3",
        object_store::aws::AmazonS3Builder,
        object_store::aws::AmazonS3ConfigKey,
        // One blob is deleted at a time, by a request that every service has.
        [("aws_disable_bulk_delete", "true")]
    );
    service!(
        gcs,
        "gcs",
        "Google Cloud Storage",
        object_store::gcp::GoogleCloudStorageBuilder,
        object_store::gcp::GoogleConfigKey,
        []
    );
    service!(
        azure,
        "azure",
        "Azure Blob",
        object_store::azure::MicrosoftAzureBuilder,
        object_store::azure::AzureConfigKey,
        []
    );
}

#[cfg(not(any(feature = "s3", feature = "gcs", feature = "azure")))]
mod service {
    use super::{Arc, ObjectStore, ObjectStoreConfig, Result, Url, missing};

    pub(super) fn s3(_url: &Url, _config: &ObjectStoreConfig) -> Result<Arc<dyn ObjectStore>> {
        Err(missing("S3", "s3"))
    }

    pub(super) fn gcs(_url: &Url, _config: &ObjectStoreConfig) -> Result<Arc<dyn ObjectStore>> {
        Err(missing("Google Cloud Storage", "gcs"))
    }

    pub(super) fn azure(_url: &Url, _config: &ObjectStoreConfig) -> Result<Arc<dyn ObjectStore>> {
        Err(missing("Azure Blob", "azure"))
    }
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
fn missing(service: &str, feature: &str) -> Error {
    Error::config(format!(
        "url: {service} is not compiled in: build aether-cold-object-store with feature {feature:?}"
    ))
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
