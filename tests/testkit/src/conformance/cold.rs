//! Conformance of the cold role.
