//! Names of things: what a user calls a point, and what the memory calls its versions and blobs.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Longest text id, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 512;

/// What the user calls a point: an integer, a UUID, or a text of 1 to [`ID_BYTES_MAX`] bytes.
///
/// The three kinds never collide: `PointId::Int(7)` and `PointId::from("7")` are two points.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PointId {
    /// An unsigned integer.
    Int(u64),
    /// A UUID.
    Uuid(Uuid),
    /// A text of 1 to [`ID_BYTES_MAX`] bytes.
    Text(Box<str>),
}

const TAG_INT: u8 = 1;
const TAG_UUID: u8 = 2;
const TAG_TEXT: u8 = 3;

impl PointId {
    /// Checks the length of a text id; integers and UUIDs are always valid.
    ///
    /// # Errors
    /// `InvalidInput` for an empty text or one above [`ID_BYTES_MAX`] bytes.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Int(_) | Self::Uuid(_) => Ok(()),
            Self::Text(text) if text.is_empty() => Err(Error::invalid_input(
                "id: expected an integer, a UUID or a text of 1 to 512 bytes, got an empty text",
            )),
            Self::Text(text) if text.len() > ID_BYTES_MAX => Err(Error::invalid_input(format!(
                "id: expected a text of 1 to {ID_BYTES_MAX} bytes, got {} bytes",
                text.len()
            ))),
            Self::Text(_) => Ok(()),
        }
    }

    /// Appends the id's key: a tag byte, then big-endian integer, UUID bytes, or text. Byte order of keys
    /// is the order of ids within one kind.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Int(n) => {
                out.push(TAG_INT);
                out.extend_from_slice(&n.to_be_bytes());
            }
            Self::Uuid(u) => {
                out.push(TAG_UUID);
                out.extend_from_slice(u.as_bytes());
            }
            Self::Text(t) => {
                out.push(TAG_TEXT);
                out.extend_from_slice(t.as_bytes());
            }
        }
    }

    /// The id's key as a fresh buffer; see [`PointId::encode`].
    pub fn key(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.key_len());
        self.encode(&mut out);
        out
    }

    /// Length of the key in bytes.
    pub fn key_len(&self) -> usize {
        1 + match self {
            Self::Int(_) => 8,
            Self::Uuid(_) => 16,
            Self::Text(t) => t.len(),
        }
    }

    /// Reads a key written by [`PointId::encode`].
    ///
    /// # Errors
    /// `Corrupt` for an unknown tag, a wrong length, or text that is not UTF-8.
    pub fn decode(key: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(format!("point id key: {what}"));
        let (&tag, rest) = key.split_first().ok_or_else(|| bad("empty"))?;
        match tag {
            TAG_INT => {
                let bytes = rest
                    .try_into()
                    .map_err(|_| bad("integer of a wrong length"))?;
                Ok(Self::Int(u64::from_be_bytes(bytes)))
            }
            TAG_UUID => {
                let bytes = rest.try_into().map_err(|_| bad("UUID of a wrong length"))?;
                Ok(Self::Uuid(Uuid::from_bytes(bytes)))
            }
            TAG_TEXT => {
                let text = std::str::from_utf8(rest).map_err(|_| bad("text is not UTF-8"))?;
                if text.is_empty() || text.len() > ID_BYTES_MAX {
                    return Err(bad("text of a wrong length"));
                }
                Ok(Self::Text(text.into()))
            }
            other => Err(bad(&format!("unknown tag {other}"))),
        }
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => write!(f, "{n}"),
            Self::Uuid(u) => write!(f, "{u}"),
            Self::Text(t) => write!(f, "{t}"),
        }
    }
}

impl From<u64> for PointId {
    fn from(n: u64) -> Self {
        Self::Int(n)
    }
}

impl From<Uuid> for PointId {
    fn from(u: Uuid) -> Self {
        Self::Uuid(u)
    }
}

impl From<&str> for PointId {
    fn from(t: &str) -> Self {
        Self::Text(t.into())
    }
}

impl From<String> for PointId {
    fn from(t: String) -> Self {
        Self::Text(t.into_boxed_str())
    }
}

/// One immutable version of a point inside one memory. Never used twice; a larger row is a later version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Row(pub u64);

impl Row {
    /// Big-endian key, so that keys sort as rows do.
    pub fn key(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Reads a key written by [`Row::key`].
    ///
    /// # Errors
    /// `Corrupt` when `key` is not 8 bytes long.
    pub fn decode(key: &[u8]) -> Result<Self> {
        let bytes = key
            .try_into()
            .map_err(|_| Error::corrupt(format!("row key: expected 8 bytes, got {}", key.len())))?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.0)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of a segment inside one memory. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// Big-endian key, so that keys sort as segments do.
    pub fn key(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Debug for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}", self.0)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Name of a blob in a cold store: 1 to 200 bytes of `a-z 0-9 - _ .` in parts joined by `/`; no part is
/// empty, `.` or `..`, or starts with `.`. Safe as a relative path on every file system and as an object
/// key. Names are made by the engine, never from a user's id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobKey(Box<str>);

/// Longest blob name, in bytes.
pub const BLOB_KEY_BYTES_MAX: usize = 200;

impl BlobKey {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// `InvalidInput` when the name breaks the rule above.
    pub fn new(name: impl Into<Box<str>>) -> Result<Self> {
        let name = name.into();
        let byte_ok =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
        let part_ok = |p: &str| !p.is_empty() && !p.starts_with('.') && p.bytes().all(byte_ok);
        if name.len() > BLOB_KEY_BYTES_MAX || !name.split('/').all(part_ok) {
            return Err(Error::invalid_input(format!(
                "blob key {name:?}: expected 1 to {BLOB_KEY_BYTES_MAX} bytes of a-z 0-9 - _ . in parts \
                 joined by '/', no part empty or starting with '.'"
            )));
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_ids_survive_their_key() {
        let long = "ü".repeat(256);
        for id in [
            PointId::Int(0),
            PointId::Int(u64::MAX),
            PointId::Uuid(Uuid::from_u128(7)),
            PointId::from("a"),
            PointId::from(long.as_str()),
        ] {
            id.validate().unwrap();
            assert_eq!(PointId::decode(&id.key()).unwrap(), id);
            assert_eq!(id.key().len(), id.key_len());
        }
    }

    #[test]
    fn damaged_id_keys_are_corrupt() {
        for key in [
            &b""[..],
            b"\x00abc",
            b"\x01abc",
            b"\x02abc",
            b"\x03\xff",
            b"\x03",
        ] {
            assert!(PointId::decode(key).unwrap_err().is_corrupt(), "{key:?}");
        }
    }

    #[test]
    fn empty_and_oversized_ids_are_refused() {
        assert!(PointId::from("").validate().is_err());
        assert!(PointId::from("x".repeat(513)).validate().is_err());
    }

    #[test]
    fn blob_keys_cannot_leave_their_folder() {
        for bad in [
            "", "/", "a/", "/a", "..", "a/../b", ".hidden", "A", "a b", "a\\b", "a//b",
        ] {
            assert!(BlobKey::new(bad).is_err(), "{bad:?}");
        }
        assert!(BlobKey::new("x".repeat(201)).is_err());
        assert!(BlobKey::new("segments/0001-00ff.seg").is_ok());
    }
}
