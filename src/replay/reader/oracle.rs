//! Records of libCacheSim's oracleGeneral format: `u32` time, `u64` key, `u32` size, `i64` next use, little-endian, packed.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::Path;

use aether_core::Result;

use super::{Request, Source, refused, unreadable};

const RECORD: usize = 24;

pub(super) struct Oracle {
    source: Source,
    number: u64,
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oracle(record {})", self.number)
    }
}

impl Oracle {
    pub(super) fn new(source: Source) -> Self {
        Self { source, number: 0 }
    }

    pub(super) fn place(&self) -> String {
        format!(", record {}", self.number)
    }

    pub(super) fn next(&mut self, path: &Path) -> Result<Option<Request>> {
        let mut record = [0; RECORD];
        let mut filled = 0;
        self.number += 1;
        while filled < RECORD {
            match self.source.read(&mut record[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => {
                    return Err(refused(
                        path,
                        self.place(),
                        format_args!(
                            "expected {RECORD} bytes, got {filled}: the file ends within a record"
                        ),
                    ));
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(path, e)),
            }
        }
        let [t0, t1, t2, t3, rest @ ..] = record;
        let [k0, k1, k2, k3, k4, k5, k6, k7, s0, s1, s2, s3, ..] = rest;
        Ok(Some(Request {
            time: u64::from(u32::from_le_bytes([t0, t1, t2, t3])),
            key: u64::from_le_bytes([k0, k1, k2, k3, k4, k5, k6, k7]),
            size: u32::from_le_bytes([s0, s1, s2, s3]),
            write: false,
            importance: None,
        }))
    }
}
