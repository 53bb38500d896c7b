//! One error type across the engine and every plug-in.
//!
//! Code branches on [`ErrorKind`] and [`Retry`] only; the text is for people and says what was expected,
//! what came, and how to mend it. Absence is an `Option`, never an error.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::plugin::Role;

/// Result of everything in Aether.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is wrong. Mend the file or variable that the message names.
    Config,
    /// The call's arguments are wrong; nothing changed. Mend the call.
    InvalidInput,
    /// This plug-in cannot do it, by its declared capability. Choose another plug-in or call.
    Unsupported,
    /// A declared limit or the disk is full; nothing changed. Make room.
    Capacity,
    /// Too many calls are waiting; nothing was begun. Call again after the hinted time.
    Overloaded,
    /// A store did not answer or refused for now. Whether to try again says [`Error::retry`].
    Unavailable,
    /// A precondition did not hold, or a create-only put met other bytes; nothing changed. Read again and decide.
    Conflict,
    /// Another writer has claimed the store. Stop writing; this process has lost its right to.
    Fenced,
    /// Another process holds the data directory. Stop it, or use another directory.
    Locked,
    /// Stored bytes are not what was written. Do not trust the item; run `aether check`.
    Corrupt,
    /// An earlier failed sync left durability unknown. Reads go on; reopen to write again.
    Poisoned,
    /// The memory or store was closed. Open it again.
    Closed,
    /// A bug in Aether or a plug-in. Report it.
    Internal,
}

impl ErrorKind {
    /// The kind's name as it stands in messages and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::InvalidInput => "invalid-input",
            Self::Unsupported => "unsupported",
            Self::Capacity => "capacity",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::Fenced => "fenced",
            Self::Locked => "locked",
            Self::Corrupt => "corrupt",
            Self::Poisoned => "poisoned",
            Self::Closed => "closed",
            Self::Internal => "internal",
        }
    }
}

/// Whether the same call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same call will fail again.
    Never,
    /// Nothing happened; the same call may succeed later.
    Later,
    /// The call may have happened: its outcome must be looked up before anything is repeated or undone.
    Unknown,
}

/// The error of everything in Aether: one pointer wide, so that hot paths stay cheap.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    retry_after: Option<Duration>,
    message: String,
    role: Option<Role>,
    plugin: Option<&'static str>,
    operation: Option<&'static str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

macro_rules! shorthand {
    ($($name:ident $is:ident $kind:ident $retry:ident $doc:literal;)*) => {$(
        #[doc = $doc]
        pub fn $name(message: impl Into<String>) -> Self {
            Self::new(ErrorKind::$kind, message).with_retry(Retry::$retry)
        }

        #[doc = concat!("Whether the kind is [`ErrorKind::", stringify!($kind), "`].")]
        pub fn $is(&self) -> bool {
            self.0.kind == ErrorKind::$kind
        }
    )*};
}

impl Error {
    /// An error of a kind, with a message that has expected, got and remedy. Its retry class is `Never`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            retry: Retry::Never,
            retry_after: None,
            message: message.into(),
            role: None,
            plugin: None,
            operation: None,
            context: Vec::new(),
            source: None,
        }))
    }

    shorthand! {
        config is_config Config Never "A wrong configuration.";
        invalid_input is_invalid_input InvalidInput Never "Wrong arguments.";
        unsupported is_unsupported Unsupported Never "Beyond the declared capability.";
        capacity is_capacity Capacity Later "No room.";
        overloaded is_overloaded Overloaded Later "Too many calls are waiting.";
        unavailable is_unavailable Unavailable Later "A store that does not answer, and surely did nothing.";
        conflict is_conflict Conflict Never "A precondition that did not hold.";
        fenced is_fenced Fenced Never "Another writer has taken over.";
        locked is_locked Locked Later "Another process holds the directory.";
        corrupt is_corrupt Corrupt Never "Stored bytes that are not what was written.";
        poisoned is_poisoned Poisoned Never "Durability unknown after a failed sync.";
        closed is_closed Closed Never "Use after close.";
        internal is_internal Internal Never "A bug.";
    }

    /// Sets the retry class.
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Says when a retry is worth it; the class becomes [`Retry::Later`].
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry = Retry::Later;
        self.0.retry_after = Some(after);
        self
    }

    /// Names the plug-in at whose edge the error arose.
    pub fn at(mut self, role: Role, plugin: &'static str, operation: &'static str) -> Self {
        self.0.role = Some(role);
        self.0.plugin = Some(plugin);
        self.0.operation = Some(operation);
        self
    }

    /// Adds a named fact, such as the blob or row concerned.
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Keeps the underlying error.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts words in front of the message, as in `import line 7: …`.
    pub fn prefixed(mut self, prefix: impl fmt::Display) -> Self {
        self.0.message = format!("{prefix}: {}", self.0.message);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the call may be made again.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// When a retry is worth it, where known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The message without context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The named facts.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0
            .context
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
    }

    /// A background thread that panicked or was stopped.
    pub(crate) fn task(error: tokio::task::JoinError) -> Self {
        Self::internal("a background thread ended early").with_source(error)
    }

    /// A copy for a second receiver (a group's callers all get the group's error); the source becomes text.
    pub fn duplicate(&self) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            retry: self.0.retry,
            retry_after: self.0.retry_after,
            message: self.0.message.clone(),
            role: self.0.role,
            plugin: self.0.plugin,
            operation: self.0.operation,
            context: self.0.context.clone(),
            source: self.0.source.as_ref().map(|s| s.to_string().into()),
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let (Some(role), Some(plugin)) = (inner.role, inner.plugin) {
            write!(f, "{} {plugin}", role.name())?;
            if let Some(operation) = inner.operation {
                write!(f, " {operation}")?;
            }
            write!(f, ": ")?;
        }
        f.write_str(&inner.message)?;
        for (i, (name, value)) in inner.context.iter().enumerate() {
            write!(f, "{}{name} {value}", if i == 0 { " (" } else { ", " })?;
        }
        if !inner.context.is_empty() {
            write!(f, ")")?;
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.0.kind.name())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|s| s as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer_wide_and_reads_as_a_sentence() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        let e = Error::corrupt("checksum: expected 1, got 2")
            .at(Role::Cold, "file", "read")
            .with("blob", "segments/7");
        assert_eq!(
            e.to_string(),
            "cold file read: checksum: expected 1, got 2 (blob segments/7)"
        );
        assert_eq!(e.duplicate().to_string(), e.to_string());
        assert_eq!(e.retry(), Retry::Never);
    }
}
