//! Encrypted volumes and volumes of volume groups on one host. Needs a kernel with a device mapper, as a guest of the disk lab; skipped by
//! name elsewhere.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod crashes;
mod guests;
mod moments;
mod sessions;
mod terminals;
mod world;
