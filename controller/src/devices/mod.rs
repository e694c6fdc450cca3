//! What belongs to a `NodeVolume` or `NodeSnapshot` whoever asked for it: its keys and their rotation, a restore in place, and what
//! becomes of it when nobody speaks of it any more or its node is gone.

pub mod keys;
pub mod lost_node;
pub mod older_keys;
pub mod restore;
pub mod rotation;
pub mod unclaimed;
