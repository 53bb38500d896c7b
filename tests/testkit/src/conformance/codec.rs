//! Conformance of the codec role.
