//! The Volume behind a claim: what it says about filesystem and mount options wins over the StorageClass.

use super::ControllerService;
use crate::index::{Claim, ClaimObject, Namespaced};
use kube::Api;
use std::sync::Arc;
use tierce_crds::{ClaimReference, Volume};

/// A Volume that stands behind a claim.
pub(super) struct Asked {
    /// The Volume.
    pub(super) volume: Arc<Volume>,
    /// The class of the claim.
    pub(super) class: Option<String>,
}

impl ControllerService {
    /// The Volume that controls the claim. Read from the index; the API server is asked only where the watches have not
    /// told yet, since a claim that is not seen yet may have a Volume.
    pub(super) async fn volume_of(&self, claim: &ClaimReference) -> Result<Option<Asked>, kube::Error> {
        let key = Namespaced::new(&claim.namespace, &claim.name);
        let (known, volume) =
            self.index.read(|state| (state.claims.get(&key).cloned(), state.volumes.get(&key).cloned()));
        let claim_now = match known.filter(|known| known.uid == claim.uid) {
            Some(known) => Some(known),
            None => self.fetch_claim(claim).await?,
        };
        let Some(claim_now) = claim_now else { return Ok(None) };
        let (Some(owner), class) = (claim_now.owner.clone(), claim_now.class.clone()) else {
            return Ok(None);
        };
        let is_owner = |volume: &Volume| volume.metadata.uid.as_deref() == Some(owner.as_str());
        if let Some(volume) = volume.filter(|volume| is_owner(volume)) {
            return Ok(Some(Asked { volume, class }));
        }
        let volumes: Api<Volume> = Api::namespaced(self.client.clone(), &claim.namespace);
        let volume = volumes.get_opt(&claim.name).await?.filter(is_owner).map(Arc::new);
        Ok(volume.map(|volume| Asked { volume, class }))
    }

    async fn fetch_claim(&self, claim: &ClaimReference) -> Result<Option<Arc<Claim>>, kube::Error> {
        let claims: Api<ClaimObject> = Api::namespaced(self.client.clone(), &claim.namespace);
        let found = claims.get_opt(&claim.name).await?.map(|object| Claim::of(&object));
        Ok(found.filter(|found| found.uid == claim.uid).map(Arc::new))
    }
}
