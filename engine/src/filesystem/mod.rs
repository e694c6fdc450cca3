//! Filesystems: recognised, guarded against formatting, made, grown.

pub(crate) mod guard;
pub(crate) mod make;
pub(crate) mod probe;
