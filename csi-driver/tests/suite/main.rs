//! The node plugin as a whole, over the simulator: with an API server in memory, and with us as the kubelet.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails a test")]

mod api_away;
mod bad_input;
mod called_off;
mod carrying_out;
mod kubelet_calls;
mod registration;
mod sharing;
mod snapshots;
mod support;
