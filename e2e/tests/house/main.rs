//! The house itself: which file imports which, and whether the documents speak of files that are there, and
//! whether names in Kubernetes are ours.

#![allow(clippy::unwrap_used)]

mod imports;
mod names;
mod paths;
