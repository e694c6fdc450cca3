//! Mounts.

pub mod options;
