//! The controller of Tierce: the CSI Controller service for the upstream sidecars, and the reconcilers of Volumes,
//! StoragePools, orphans and lost nodes. It talks to the API server only, never to a node.

pub mod class;
pub mod config;
pub mod crds;
pub mod csi;
pub mod events;
pub mod index;
pub mod keys;
pub mod lease;
pub mod lost_node;
pub mod metrics;
pub mod placement;
pub mod pool;
pub mod queue;
pub mod reconcilers;
pub mod restore;
pub mod rotation;
pub mod roughly;
pub mod unclaimed;
pub mod volume;
pub mod words;
