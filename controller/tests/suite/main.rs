//! The controller over an API server and nodes in memory, by what it is asked for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod claims;
mod copies;
mod csi_calls;
mod encryption;
mod forsaken;
mod growth;
mod leader;
mod quota_subjects;
mod quotas;
mod restores;
mod sharing;
mod snapshots;
mod volumes;
mod watches;
