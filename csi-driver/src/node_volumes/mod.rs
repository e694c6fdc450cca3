//! Carries out the `NodeVolumes` of this node.

mod carry_out;
mod plan;
mod status;
