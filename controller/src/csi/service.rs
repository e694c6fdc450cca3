//! What every RPC works with.

use crate::devices::keys::Keys;
use crate::index::Index;
use crate::quota::Reserver;
use kube::Client;
use std::sync::Arc;
use tierce_runtime::locks::VolumeLocks;

/// Field manager of what the service writes into `NodeVolume.spec`.
pub(super) const MANAGER: &str = "tierce-controller-csi";

/// Answers Controller calls.
#[derive(Clone)]
pub struct ControllerService {
    pub(super) client: Client,
    pub(super) index: Arc<Index>,
    pub(super) keys: Keys,
    pub(super) locks: VolumeLocks,
    pub(super) quotas: Reserver,
}

impl ControllerService {
    /// Over this API server, with the facts of this index.
    /// Keys lie in Secrets of `namespace`.
    pub fn new(client: Client, index: Arc<Index>, namespace: &str) -> Self {
        let keys = Keys::new(client.clone(), namespace);
        let quotas = Reserver::new(client.clone(), Arc::clone(&index));
        Self { client, index, keys, locks: VolumeLocks::new(), quotas }
    }
}
