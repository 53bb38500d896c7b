//! Fakes of the policy role.
