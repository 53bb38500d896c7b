//! Fakes of the hot role.
