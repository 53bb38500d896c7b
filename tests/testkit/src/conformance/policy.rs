//! Conformance of the policy role.
