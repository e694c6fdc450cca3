//! The controller of Tierce: the CSI Controller service for the upstream sidecars, and the reconcilers of Volumes,
//! SharedVolumes, claims that copy, StoragePools, orphans and lost nodes. It talks to the API server only, never to a node.

mod claims;
pub mod csi;
pub mod devices;
pub mod index;
pub mod metrics;
pub mod placement;
pub mod pools;
pub mod quota;
pub mod reconcilers;
pub mod run;
mod sharing;
mod storage_class;
pub mod volumes;
