//! What a SharedVolume has beside the life of a volume: a claim and a PersistentVolume in each namespace of its members, and the nodes that it
//! is served to. `view` looks, `plan` decides, `reconcile` carries out.
//!
//! Every namespace has a volume handle of its own, since Kubernetes mounts one handle once on a node, and what is mounted read-only for one
//! namespace is to be written by another. The PersistentVolumes stay when their claims go (`Retain`), and never have data of their own: only the
//! one of the SharedVolume's own namespace, which external-provisioner deletes, has.

mod clients;
mod persistent_volume;
mod plan;
mod reconcile;
mod refusals;
mod view;
mod wakes;

pub(crate) use persistent_volume::{Home, persistent_volume_at_home};
pub(crate) use reconcile::{Sharing, release};
pub(crate) use view::View;
pub(crate) use wakes::{Sharings, concerned};
