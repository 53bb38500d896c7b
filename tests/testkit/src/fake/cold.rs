//! Fakes of the cold role.
