//! Carries out the `NodeSnapshots` of this node.

mod carry_out;
mod plan;
mod status;
