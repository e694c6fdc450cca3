//! Which namespaces share a volume.

use super::ControllerService;
use crate::index::{PersistentVolume, PersistentVolumeObject};
use kube::Api;
use kube::api::ListParams;
use std::collections::BTreeSet;
use tierce_crds::names;

impl ControllerService {
    /// Namespaces other than its own that have the volume of this id, of the SharedVolume of this UID: as the index has it, else the API server. Where the
    /// PersistentVolume is being deleted, no pod has it.
    pub(super) async fn shares(&self, id: &str, uid: &str) -> Result<BTreeSet<String>, kube::Error> {
        let known: BTreeSet<_> = self.index.read(|state| {
            let pairs = state.pairs_of_device(id).filter(|pv| !pv.deleting);
            let claims = pairs.filter_map(|pv| pv.claim.as_ref());
            claims.map(|claim| claim.namespace.clone()).collect()
        });
        if !known.is_empty() {
            return Ok(known);
        }
        // A watch may be late. There are as many as namespaces that share it.
        let volumes: Api<PersistentVolumeObject> = Api::all(self.client.clone());
        let of_its = ListParams::default().labels(&format!("{}={uid}", names::LABEL_SHARED_UID));
        let found = volumes.list(&of_its).await?.items.into_iter().filter_map(PersistentVolume::of);
        let shares = found.filter(|pv| names::of_shared_handle(&pv.handle) == Some(id) && !pv.deleting);
        Ok(shares.filter_map(|pv| pv.claim).map(|claim| claim.namespace).collect())
    }
}
