//! A store in memory that counts, fails on demand, and forgives nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use aether_core::plugin::Role;
use aether_core::role::{BlobInfo, ColdStore};
use aether_core::{BlobKey, Error, Result, Retry};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::yield_now;

/// A call as the hook sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColdOp {
    /// `put` of so many bytes.
    Put(BlobKey, usize),
    /// `read` of these ranges.
    Read(BlobKey, Vec<Range<u64>>),
    /// `size`.
    Size(BlobKey),
    /// `delete`.
    Delete(BlobKey),
    /// `list` of a prefix.
    List(String),
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColdFault {
    /// Nothing: the call does what the contract says.
    #[default]
    None,
    /// `Unavailable` with `Retry::Later`, and no effect.
    FailBefore,
    /// `Capacity`, and no effect. For `put`; other calls take it as [`ColdFault::FailBefore`].
    Full,
    /// The whole effect, then `Unavailable` with `Retry::Unknown`, as when the reply is lost. On calls that change nothing
    /// the class is `Later`, for they may always be repeated.
    LoseReply,
    /// `read` answers with one bit flipped in each non-empty range; what is stored stays right. Other calls are not touched.
    WrongBytes,
    /// `list` answers as it would have before the last put or delete, as an eventual listing may. Other calls are not touched.
    StaleList,
    /// No answer until [`StrictCold::release`], and then the call as if nothing had been. A call that is dropped meanwhile has
    /// no effect.
    Hang,
    /// The whole effect at once, but no answer until [`StrictCold::release`]. A call that is dropped meanwhile did happen.
    HangAfter,
}

/// How many calls came in, by kind, the failed ones too; and bytes that were answered and stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColdCounts {
    /// `put`.
    pub puts: u64,
    /// `read`.
    pub reads: u64,
    /// Ranges of all `read`s.
    pub ranges: u64,
    /// `size`.
    pub sizes: u64,
    /// `delete`.
    pub deletes: u64,
    /// `list`.
    pub lists: u64,
    /// Bytes answered by `read`.
    pub bytes_read: u64,
    /// Bytes of blobs that `put` created.
    pub bytes_put: u64,
}

impl ColdCounts {
    /// All calls.
    pub fn calls(&self) -> u64 {
        self.puts + self.reads + self.sizes + self.deletes + self.lists
    }
}

type Hook = Arc<dyn Fn(&ColdOp, u64) -> ColdFault + Send + Sync>;

struct State {
    blobs: BTreeMap<BlobKey, Bytes>,
    before_last_change: BTreeMap<BlobKey, Bytes>,
    deleted: BTreeSet<BlobKey>,
    counts: ColdCounts,
    hook: Option<Hook>,
    reuse: bool,
}

/// An in-memory [`ColdStore`] for tests of the engine. A clone is a second handle on the same contents, so that they
/// survive the engine that is dropped in mid-work: `put` is durable on return.
///
/// Stricter than a real store: every call yields to the other tasks before and after its effect; a key that was deleted
/// and comes back is `Internal`, since blob names are never used twice (see [`StrictCold::allow_reuse`]).
///
/// The hook is asked once a call, with the call and its number (0 is the first call on these contents, whatever the
/// handle), and decides the fault:
///
/// ```
/// use aether_testkit::fake::cold::{ColdFault, ColdOp, StrictCold};
///
/// let cold = StrictCold::new().with_hook(|op, n| match op {
///     ColdOp::Put(..) if n == 3 => ColdFault::LoseReply,
///     _ => ColdFault::None,
/// });
/// let after_a_crash = cold.clone();
/// ```
#[derive(Clone)]
pub struct StrictCold {
    state: Arc<Mutex<State>>,
    released: watch::Sender<u64>,
    hanging: watch::Sender<usize>,
}

impl fmt::Debug for StrictCold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("StrictCold")
            .field("blobs", &state.blobs.len())
            .field("counts", &state.counts)
            .finish_non_exhaustive()
    }
}

impl Default for StrictCold {
    fn default() -> Self {
        Self::new()
    }
}

impl StrictCold {
    /// An empty store without faults.
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                blobs: BTreeMap::new(),
                before_last_change: BTreeMap::new(),
                deleted: BTreeSet::new(),
                counts: ColdCounts::default(),
                hook: None,
                reuse: false,
            })),
            released: watch::Sender::new(0),
            hanging: watch::Sender::new(0),
        }
    }

    /// Sets the hook of all handles and returns this one.
    #[must_use]
    pub fn with_hook(
        self,
        hook: impl Fn(&ColdOp, u64) -> ColdFault + Send + Sync + 'static,
    ) -> Self {
        self.set_hook(hook);
        self
    }

    /// Lets a key that was deleted be put again.
    #[must_use]
    pub fn allow_reuse(self) -> Self {
        self.state.lock().reuse = true;
        self
    }

    /// Sets the hook of all handles.
    pub fn set_hook(&self, hook: impl Fn(&ColdOp, u64) -> ColdFault + Send + Sync + 'static) {
        self.state.lock().hook = Some(Arc::new(hook));
    }

    /// From now on no faults, on all handles. Calls that hang go on hanging.
    pub fn clear_hook(&self) {
        self.state.lock().hook = None;
    }

    /// Lets every call that hangs now go on.
    pub fn release(&self) {
        self.released.send_modify(|turn| *turn += 1);
    }

    /// Waits until at least `calls` calls hang.
    pub async fn wait_for_hanging(&self, calls: usize) {
        let mut hanging = self.hanging.subscribe();
        // The sender lives in `self`, so waiting cannot end with an error.
        if hanging.wait_for(|n| *n >= calls).await.is_err() {
            unreachable!("the sender is held by this handle");
        }
    }

    /// The counters of all handles.
    pub fn counts(&self) -> ColdCounts {
        self.state.lock().counts
    }

    /// What is stored, sorted by key.
    pub fn blobs(&self) -> Vec<(BlobKey, Bytes)> {
        let state = self.state.lock();
        let pair = |(key, bytes): (&BlobKey, &Bytes)| (key.clone(), bytes.clone());
        state.blobs.iter().map(pair).collect()
    }

    /// Changes what is stored behind the store's back, as a decaying disk does; `None` takes the blob away.
    pub fn tamper(&self, key: &BlobKey, bytes: Option<Bytes>) {
        let mut state = self.state.lock();
        match bytes {
            Some(bytes) => state.blobs.insert(key.clone(), bytes),
            None => state.blobs.remove(key),
        };
    }

    /// Counts a call, asks the hook, and serves the faults that come before the effect.
    async fn enter(&self, op: ColdOp) -> Result<ColdFault> {
        let (hook, number) = {
            let counts = &mut self.state.lock();
            let number = counts.counts.calls();
            let c = &mut counts.counts;
            match &op {
                ColdOp::Put(..) => c.puts += 1,
                ColdOp::Read(_, ranges) => {
                    c.reads += 1;
                    c.ranges += ranges.len() as u64;
                }
                ColdOp::Size(_) => c.sizes += 1,
                ColdOp::Delete(_) => c.deletes += 1,
                ColdOp::List(_) => c.lists += 1,
            }
            (counts.hook.clone(), number)
        };
        // Outside the lock, so that a hook may look at the store.
        let fault = hook.map_or(ColdFault::None, |hook| hook(&op, number));
        yield_now().await;
        match fault {
            ColdFault::FailBefore => Err(injected("fails before its effect", Retry::Later, number)),
            ColdFault::Full if matches!(op, ColdOp::Put(..)) => {
                Err(Error::capacity("injected fault: the store is full").with("call", number))
            }
            ColdFault::Full => Err(injected("fails before its effect", Retry::Later, number)),
            ColdFault::Hang => {
                self.hang().await;
                Ok(ColdFault::None)
            }
            other => Ok(other),
        }
    }

    /// Serves the faults that come after the effect.
    async fn leave(&self, fault: ColdFault, changes: bool) -> Result<()> {
        match fault {
            ColdFault::LoseReply => {
                let retry = if changes {
                    Retry::Unknown
                } else {
                    Retry::Later
                };
                let number = self.counts().calls();
                Err(injected("loses its reply", retry, number))
            }
            ColdFault::HangAfter => {
                self.hang().await;
                Ok(())
            }
            _ => {
                yield_now().await;
                Ok(())
            }
        }
    }

    async fn hang(&self) {
        /// Counts out when the call goes on, and also when its future is dropped.
        struct Hanging<'a>(&'a watch::Sender<usize>);
        impl Drop for Hanging<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|n| *n -= 1);
            }
        }
        let mut released = self.released.subscribe();
        let turn = *released.borrow_and_update();
        self.hanging.send_modify(|n| *n += 1);
        let hanging = Hanging(&self.hanging);
        if released.wait_for(|now| *now > turn).await.is_err() {
            unreachable!("the sender is held by this handle");
        }
        drop(hanging);
    }
}

fn injected(what: &str, retry: Retry, number: u64) -> Error {
    Error::unavailable(format!("injected fault: the call {what}"))
        .with_retry(retry)
        .with("call", number)
}

/// Checks ranges against a blob's length and cuts them out.
pub(super) fn cut(key: &BlobKey, bytes: &Bytes, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
    let cut = |range: &Range<u64>| {
        if range.start > range.end || range.end > bytes.len() as u64 {
            return Err(Error::invalid_input(format!(
                "range {}..{}: expected a range within the blob's {} bytes",
                range.start,
                range.end,
                bytes.len()
            ))
            .with("blob", key));
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    };
    ranges.iter().map(cut).collect()
}

#[async_trait]
impl ColdStore for StrictCold {
    async fn put(&self, key: &BlobKey, data: Bytes) -> Result<()> {
        let at = |e: Error| e.at(Role::Cold, "strict", "put").with("blob", key);
        let fault = self.enter(ColdOp::Put(key.clone(), data.len())).await;
        let fault = fault.map_err(at)?;
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            match state.blobs.get(key) {
                Some(old) if *old == data => {}
                Some(old) => {
                    return Err(at(Error::conflict(format!(
                        "the key holds other bytes: {} of them, put {}",
                        old.len(),
                        data.len()
                    ))));
                }
                None if state.deleted.contains(key) && !state.reuse => {
                    return Err(at(Error::internal("a blob name is used a second time")));
                }
                None => {
                    state.before_last_change = state.blobs.clone();
                    state.counts.bytes_put += data.len() as u64;
                    state.blobs.insert(key.clone(), data);
                }
            }
        }
        self.leave(fault, true).await.map_err(at)
    }

    async fn read(&self, key: &BlobKey, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let at = |e: Error| e.at(Role::Cold, "strict", "read").with("blob", key);
        let fault = self.enter(ColdOp::Read(key.clone(), ranges.to_vec())).await;
        let fault = fault.map_err(at)?;
        let blob = self.state.lock().blobs.get(key).cloned();
        let mut answers = match &blob {
            Some(bytes) => Some(cut(key, bytes, ranges).map_err(at)?),
            None => None,
        };
        for answer in answers.iter_mut().flatten() {
            self.state.lock().counts.bytes_read += answer.len() as u64;
            if fault == ColdFault::WrongBytes && !answer.is_empty() {
                let mut wrong = answer.to_vec();
                let middle = wrong.len() / 2;
                wrong[middle] ^= 0x10;
                *answer = wrong.into();
            }
        }
        self.leave(fault, false).await.map_err(at)?;
        Ok(answers)
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        let at = |e: Error| e.at(Role::Cold, "strict", "size").with("blob", key);
        let fault = self.enter(ColdOp::Size(key.clone())).await.map_err(at)?;
        let len = self.state.lock().blobs.get(key).map(|b| b.len() as u64);
        self.leave(fault, false).await.map_err(at)?;
        Ok(len)
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        let at = |e: Error| e.at(Role::Cold, "strict", "delete").with("blob", key);
        let fault = self.enter(ColdOp::Delete(key.clone())).await.map_err(at)?;
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            if state.blobs.contains_key(key) {
                state.before_last_change = state.blobs.clone();
                state.blobs.remove(key);
                state.deleted.insert(key.clone());
            }
        }
        self.leave(fault, true).await.map_err(at)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let at = |e: Error| e.at(Role::Cold, "strict", "list").with("prefix", prefix);
        let fault = self.enter(ColdOp::List(prefix.to_owned())).await;
        let fault = fault.map_err(at)?;
        let found = {
            let state = self.state.lock();
            let blobs = match fault {
                ColdFault::StaleList => &state.before_last_change,
                _ => &state.blobs,
            };
            let with = blobs.iter().filter(|(k, _)| k.as_str().starts_with(prefix));
            let info = |(key, bytes): (&BlobKey, &Bytes)| BlobInfo {
                key: key.clone(),
                bytes: bytes.len() as u64,
            };
            with.map(info).collect()
        };
        self.leave(fault, false).await.map_err(at)?;
        Ok(found)
    }
}

#[cfg(test)]
#[path = "strict_tests.rs"]
mod tests;
