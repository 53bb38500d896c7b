//! Reading and writing little-endian fields; every read is checked, nothing is allocated by a number that was read.
#![deny(clippy::indexing_slicing)]

use crate::error::{Error, Result};

/// Reads fields from the front of a byte slice.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader whose errors name `what`.
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(n) else {
            return Err(Error::corrupt(format!(
                "{}: expected {n} more bytes, got {}",
                self.what,
                self.rest.len()
            )));
        };
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// `n` floats, appended to `out`.
    pub(crate) fn floats(&mut self, n: usize, out: &mut Vec<f32>) -> Result<()> {
        let len = n
            .checked_mul(4)
            .ok_or_else(|| self.bad("a length beyond memory"))?;
        let bytes = self.take(len)?;
        out.extend(
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b)),
        );
        Ok(())
    }

    /// All that is left.
    pub(crate) fn remaining(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Refuses trailing bytes.
    pub(crate) fn end(&self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.bad(&format!("{} bytes too many", self.rest.len())))
    }

    /// A corruption error of this reader.
    pub(crate) fn bad(&self, what: &str) -> Error {
        Error::corrupt(format!("{}: {what}", self.what))
    }
}

/// Appends floats, little-endian.
pub(crate) fn put_floats(out: &mut Vec<u8>, floats: &[f32]) {
    out.reserve(floats.len() * 4);
    for x in floats {
        out.extend_from_slice(&x.to_le_bytes());
    }
}
