//! The house itself: which file imports which, and whether the documents speak of files that are there.

#![allow(clippy::unwrap_used)]

mod imports;
mod paths;
