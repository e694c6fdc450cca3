//! The node plugin as a whole, over the simulator: with an API server in memory, and with us as the kubelet.

mod api_away;
mod bad_input;
mod carrying_out;
mod kubelet_calls;
mod registration;
mod secrets;
mod support;
