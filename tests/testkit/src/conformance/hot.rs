//! Conformance of the hot role.
