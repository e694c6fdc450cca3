//! What is asked for with the object behind a claim: what it says about filesystem and mount options wins over the StorageClass.

use super::ControllerService;
use crate::index::{Claim, ClaimObject, Namespaced};
use crate::volumes::front_behind;
use crate::volumes::life::Front;
use kube::Api;
use std::sync::Arc;
use tierce_crds::ClaimReference;

/// What stands behind a claim.
pub(super) struct Behind {
    /// The object that controls it.
    pub(super) front: Front,
    /// The class of the claim.
    pub(super) class: Option<String>,
}

impl ControllerService {
    /// What controls the claim, if it is of ours. A claim that the watch has not shown yet may have an owner.
    pub(super) async fn behind(&self, claim: &ClaimReference) -> Result<Option<Behind>, kube::Error> {
        let key = Namespaced::new(&claim.namespace, &claim.name);
        let known = self.index.read(|state| state.claims.get(&key).cloned());
        let claim_now = match known.filter(|known| known.uid == claim.uid) {
            Some(known) => Some(known),
            None => self.fetch_claim(claim).await?,
        };
        let Some(claim_now) = claim_now else { return Ok(None) };
        let Some(owner) = &claim_now.owner else { return Ok(None) };
        let front = front_behind(owner, &key, &self.index, &self.client).await?;
        Ok(front.map(|front| Behind { front, class: claim_now.class.clone() }))
    }

    async fn fetch_claim(&self, claim: &ClaimReference) -> Result<Option<Arc<Claim>>, kube::Error> {
        let claims: Api<ClaimObject> = Api::namespaced(self.client.clone(), &claim.namespace);
        let found = claims.get_opt(&claim.name).await?.map(|object| Claim::of(&object));
        Ok(found.filter(|found| found.uid == claim.uid).map(Arc::new))
    }
}
