//! The API of Tierce: the custom resources of `storage.tierce.dev/v1alpha1`, their conditions, and the names that
//! the controller, the node plugin and the chart agree on. It knows nothing of disks.

// The derive of kube puts its own copy of each type into a private module.
#![allow(unreachable_pub)]

pub mod conditions;
mod key_ring;
pub mod names;
mod node_snapshot;
mod node_storage;
mod node_volume;
mod owner;
mod quantity;
mod shared_volume;
mod storage_ledger;
mod storage_pool;
mod storage_quota;
#[cfg(test)]
mod tests;
mod volume;
mod volume_restore;

pub use key_ring::{BadKey, KeyRing};
pub use node_snapshot::{NodeSnapshot, NodeSnapshotSpec, NodeSnapshotStatus};
pub use node_storage::{
    MOST_LEFTOVERS, NodeStorage, NodeStorageSpec, NodeStorageStatus, PoolState, PoolStatus,
};
pub use node_volume::{
    ClaimReference, Export, NodeSource, NodeVolume, NodeVolumeSpec, NodeVolumeStatus, RestoreOrder, Served,
    VolumeReference,
};
pub use owner::{Owner, OwnerKind};
pub use quantity::{ParseQuantityError, SIZE_STEP, format_bytes, parse_bytes, roughly, size_made_of};
pub use shared_volume::{
    Access, Member, SharedClaim, SharedClient, SharedVolume, SharedVolumeSpec, SharedVolumeStatus,
};
pub use storage_ledger::{LedgerEntry, OverSince, StorageLedger, StorageLedgerSpec};
pub use storage_pool::{
    DirectoryBackend, LvmBackend, Provisioning, StoragePool, StoragePoolSpec, StoragePoolStatus,
    ThickVolumes, ThinPool,
};
pub use storage_quota::{
    MOST_TOLD, QuotaSubject, StorageQuota, StorageQuotaSpec, StorageQuotaStatus, SubjectOverSoft,
    VolumeLimits,
};
pub use tierce_filesystem::{Filesystem, UnknownFilesystem, mount_options};
pub use volume::{
    AccessMode, Binding, DeletionPolicy, Encryption, Phase, Source, Volume, VolumeMode, VolumeSpec,
    VolumeStatus,
};
pub use volume_restore::{RestoreSource, VolumeRestore, VolumeRestoreSpec, VolumeRestoreStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Every CRD of Tierce, in the order in which `kubectl get crd` lists them.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        NodeSnapshot::crd(),
        NodeStorage::crd(),
        NodeVolume::crd(),
        SharedVolume::crd(),
        StorageLedger::crd(),
        StoragePool::crd(),
        StorageQuota::crd(),
        VolumeRestore::crd(),
        Volume::crd(),
    ];
    for crd in &mut crds {
        let labels = crd.metadata.labels.get_or_insert_default();
        labels.insert("app.kubernetes.io/name".into(), "tierce".into());
        labels.insert("app.kubernetes.io/part-of".into(), "tierce".into());
    }
    crds
}
