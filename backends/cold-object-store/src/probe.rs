//! Does the store really create only? Some services and proxies ignore the condition and overwrite; on such a store two
//! writers could destroy each other's blobs, so it is not opened.

use aether_core::plugin::BuildContext;
use aether_core::{Error, Result};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::error::{Effect, map};
use crate::target::Target;

/// Tries it on an object of its own beside the blobs, and removes that.
///
/// # Errors
/// `Unsupported` when the second creation succeeds too; `Unavailable` when the store does not answer.
pub(crate) async fn creates_only(target: &Target, context: &BuildContext) -> Result<()> {
    // Two processes that probe at once must not meet on one name.
    let unique = format!(
        "aether-probe-{:x}-{:x}-{}",
        context.seed,
        context.clock.wall_us(),
        std::process::id()
    );
    let path = target.names.hidden(&unique);
    let outcome = try_twice(&*target.store, &path).await;
    match target.store.delete(&path).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => outcome,
        Err(e) => outcome.and(Err(map(e, Effect::None).prefixed("probe"))),
    }
}

async fn try_twice(store: &dyn ObjectStore, path: &Path) -> Result<()> {
    let create = |bytes: &'static [u8]| {
        let options = PutOptions::from(PutMode::Create);
        store.put_opts(path, Bytes::from_static(bytes).into(), options)
    };
    let failed = |e| map(e, Effect::None).prefixed("probe");
    match create(b"first").await {
        // A repeated request may find its own work.
        Ok(_) | Err(StoreError::AlreadyExists { .. }) => {}
        Err(e) => return Err(failed(e)),
    }
    match create(b"second").await {
        Err(StoreError::AlreadyExists { .. }) => {}
        Err(e) => return Err(failed(e)),
        Ok(_) => {
            return Err(Error::unsupported(
                "the store took two creations of one object, so one writer could destroy another's blobs: use a service that \
                 honours conditional creation (If-None-Match), or set `probe = false` if a proxy is to blame and only one \
                 writer exists",
            ));
        }
    }
    let kept = store.get(path).await.map_err(failed)?;
    let kept = kept.bytes().await.map_err(failed)?;
    if kept != b"first"[..] {
        return Err(Error::unsupported(
            "the store refused to create an object twice and replaced its bytes all the same: it cannot keep blobs",
        ));
    }
    Ok(())
}
