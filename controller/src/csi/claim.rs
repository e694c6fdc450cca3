//! The Volume behind a claim: what it says about filesystem and mount options wins over the StorageClass.

use super::ControllerService;
use crate::index::{Claim, Namespaced};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use std::sync::Arc;
use tierce_crds::{ClaimReference, Volume};

impl ControllerService {
    /// The Volume that controls the claim. Read from the index; the API server is asked only where the watches have not
    /// told yet, since a claim that is not seen yet may have a Volume.
    pub(super) async fn volume_of(&self, claim: &ClaimReference) -> Result<Option<Arc<Volume>>, kube::Error> {
        let key = Namespaced::new(&claim.namespace, &claim.name);
        let (known, volume) =
            self.index.read(|state| (state.claims.get(&key).cloned(), state.volumes.get(&key).cloned()));
        let owner = match known.filter(|known| known.uid == claim.uid) {
            Some(known) => known.owner.clone(),
            None => self.owner_of(claim).await?,
        };
        let Some(owner) = owner else { return Ok(None) };
        let is_owner = |volume: &Volume| volume.metadata.uid.as_deref() == Some(owner.as_str());
        if let Some(volume) = volume.filter(|volume| is_owner(volume)) {
            return Ok(Some(volume));
        }
        let volumes: Api<Volume> = Api::namespaced(self.client.clone(), &claim.namespace);
        Ok(volumes.get_opt(&claim.name).await?.filter(is_owner).map(Arc::new))
    }

    async fn owner_of(&self, claim: &ClaimReference) -> Result<Option<String>, kube::Error> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &claim.namespace);
        let found = claims.get_metadata_opt(&claim.name).await?;
        let found = found.filter(|object| object.metadata.uid.as_deref() == Some(claim.uid.as_str()));
        Ok(found.and_then(|object| Claim::owner(&object.metadata)))
    }
}
