//! The house itself: which file imports which, and whether the documents speak of files that are there.

mod imports;
mod paths;
