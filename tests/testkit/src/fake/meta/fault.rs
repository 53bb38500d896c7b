//! Faults on demand: which operation fails, and whether it had its effect.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aether_core::role::{Batch, Epoch, KeyRange, MetaCapability, MetaStore, Seq, Table};
use aether_core::{Error, Result, Retry};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

/// What happens to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It goes through.
    None,
    /// It fails with `Unavailable`, `Retry::Later`, and has no effect.
    Before,
    /// It has its effect, but its reply is lost: `Unavailable`, `Retry::Unknown`.
    After,
    /// It is lost on the way and has no effect, but the caller cannot know: `Unavailable`, `Retry::Unknown`, just as
    /// [`Fault::After`].
    Lost,
    /// A sync fails: this and every later `commit` and `durable` answer `Poisoned`; reads go on.
    Poison,
    /// The process dies just before: this and every later operation fail without effect.
    Die,
    /// The process dies just after: this operation has its effect and fails, every later one fails without effect.
    DieAfter,
}

/// Decides by the operation's name (`claim`, `get`, `scan`, `commit`, `durable`, `close`) and its number among those of
/// that name, from 1.
pub type Hook = Arc<dyn Fn(&str, u64) -> Fault + Send + Sync>;

#[derive(Default)]
struct State {
    hook: Option<Hook>,
    counts: BTreeMap<&'static str, u64>,
    poisoned: bool,
    dead: bool,
}

/// Counts operations and applies the hook's verdicts. Each handle has its own.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<State>>);

/// What the gate lets the operation do.
pub(super) enum Pass {
    /// Do it and answer.
    Through,
    /// Do it, then answer this error.
    Then(Error),
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gate").field(&self.0.lock().counts).finish()
    }
}

fn dead() -> Error {
    Error::unavailable("injected: the process has died").with_retry(Retry::Unknown)
}

impl Gate {
    pub(super) fn set_hook(&self, hook: Hook) {
        self.0.lock().hook = Some(hook);
    }

    pub(super) fn count(&self, op: &str) -> u64 {
        self.0.lock().counts.get(op).copied().unwrap_or(0)
    }

    pub(super) fn total(&self) -> u64 {
        self.0.lock().counts.values().sum()
    }

    pub(super) fn pass(&self, op: &'static str) -> Result<Pass> {
        let (hook, n) = {
            let mut state = self.0.lock();
            let count = state.counts.entry(op).or_default();
            *count += 1;
            (state.hook.clone(), state.counts[op])
        };
        // The hook runs without the lock, so that it may ask the store for its counts.
        let fault = hook.map_or(Fault::None, |hook| hook(op, n));
        let mut state = self.0.lock();
        if state.dead {
            return Err(dead());
        }
        let writes = matches!(op, "commit" | "durable");
        if fault == Fault::Poison {
            state.poisoned = true;
        }
        if state.poisoned && writes {
            return Err(Error::poisoned(
                "injected: an earlier sync failed; reopen the store",
            ));
        }
        match fault {
            Fault::None | Fault::Poison => Ok(Pass::Through),
            Fault::Before => Err(Error::unavailable("injected: nothing was done").with("op", op)),
            Fault::Lost => Err(Error::unavailable("injected: no reply")
                .with_retry(Retry::Unknown)
                .with("op", op)),
            Fault::After => Ok(Pass::Then(
                Error::unavailable("injected: no reply")
                    .with_retry(Retry::Unknown)
                    .with("op", op),
            )),
            Fault::Die => {
                state.dead = true;
                Err(dead())
            }
            Fault::DieAfter => {
                state.dead = true;
                Ok(Pass::Then(dead()))
            }
        }
    }
}

impl Pass {
    /// The operation's answer, or the injected error in its place.
    pub(super) fn answer<T>(self, result: Result<T>) -> Result<T> {
        match self {
            Self::Through => result,
            Self::Then(error) => result.and(Err(error)),
        }
    }
}

/// Wraps any store and fails where its hook says.
#[derive(Debug)]
pub struct FaultyMeta {
    inner: Arc<dyn MetaStore>,
    gate: Gate,
}

impl FaultyMeta {
    /// A wrapper that asks `hook` before every operation.
    pub fn new(inner: Arc<dyn MetaStore>, hook: Hook) -> Self {
        let gate = Gate::default();
        gate.set_hook(hook);
        Self { inner, gate }
    }

    /// A wrapper under which the `n`th operation named `op`, from 1, meets `fault`, and no other does.
    pub fn failing_at(inner: Arc<dyn MetaStore>, op: &'static str, n: u64, fault: Fault) -> Self {
        let hook = move |o: &str, i: u64| {
            if o == op && i == n {
                fault
            } else {
                Fault::None
            }
        };
        Self::new(inner, Arc::new(hook))
    }

    /// How many operations of a name were asked for so far.
    pub fn count(&self, op: &str) -> u64 {
        self.gate.count(op)
    }

    /// How many operations were asked for so far.
    pub fn total(&self) -> u64 {
        self.gate.total()
    }
}

#[async_trait]
impl MetaStore for FaultyMeta {
    async fn claim(&self) -> Result<Epoch> {
        let pass = self.gate.pass("claim")?;
        pass.answer(self.inner.claim().await)
    }

    async fn get(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let pass = self.gate.pass("get")?;
        pass.answer(self.inner.get(table, keys).await)
    }

    async fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let pass = self.gate.pass("scan")?;
        pass.answer(self.inner.scan(table, range, limit).await)
    }

    async fn commit(&self, batch: Batch) -> Result<Seq> {
        let pass = self.gate.pass("commit")?;
        pass.answer(self.inner.commit(batch).await)
    }

    async fn durable(&self, seq: Seq) -> Result<()> {
        let pass = self.gate.pass("durable")?;
        pass.answer(self.inner.durable(seq).await)
    }

    fn capability(&self) -> MetaCapability {
        self.inner.capability()
    }

    async fn close(&self) -> Result<()> {
        let pass = self.gate.pass("close")?;
        pass.answer(self.inner.close().await)
    }
}
