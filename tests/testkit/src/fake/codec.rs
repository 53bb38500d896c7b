//! Fakes of the codec role.
