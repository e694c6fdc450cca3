//! The volumes that people ask for, one folder for each kind.

pub mod personal;
