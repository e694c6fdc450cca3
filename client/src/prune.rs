//! Removing what nothing uses and nobody keeps.

use std::collections::BTreeSet;

use kube::ResourceExt;
use tierce_crds::{DeletionPolicy, Volume, parse_bytes};

use crate::{
    Cluster, Error, Users,
    list::{Selection, chosen},
    removal,
    wait::{Outcome, Patience},
};

/// Labels and annotations by which the tools that make objects from files know their own: what they made they would make again, empty.
const MADE_BY_TOOLS: [&str; 7] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "argocd.argoproj.io/instance",
    "argocd.argoproj.io/tracking-id",
    "helm.toolkit.fluxcd.io/name",
    "kustomize.toolkit.fluxcd.io/name",
    "meta.helm.sh/release-name",
];

/// Volumes that no pod uses.
#[derive(Debug, Clone, Default)]
pub struct Unused {
    /// Those that may go.
    pub going: Vec<Volume>,
    /// Those that something else would miss, and why.
    pub kept: Vec<(Volume, String)>,
}

impl Unused {
    /// Leaves of what may go only what another look saw too: what somebody agreed to, for example.
    pub fn retain_seen(&mut self, seen: &[Volume]) {
        let seen: BTreeSet<Option<String>> = seen.iter().map(ResourceExt::uid).collect();
        self.going.retain(|volume| seen.contains(&volume.uid()));
    }
}

/// Looks for the chosen volumes that no pod uses; `accepts` chooses among them.
pub async fn unused(
    cluster: &Cluster,
    selection: &Selection,
    accepts: impl Fn(&Volume) -> bool,
) -> Result<Unused, Error> {
    let found = chosen(cluster, selection).await?;
    let users = Users::ask(cluster, selection.all_namespaces).await?;
    let mut unused = Unused::default();
    for volume in found.into_iter().filter(accepts) {
        if volume.metadata.deletion_timestamp.is_some() || !users.pods(&volume).is_empty() {
            continue;
        }
        match kept_by(&volume) {
            Some(why) => unused.kept.push((volume, why)),
            None => unused.going.push(volume),
        }
    }
    Ok(unused)
}

/// What became of volumes that were told to go.
#[derive(Debug, Default)]
pub struct Pruned<'a> {
    /// Gone.
    pub removed: Vec<&'a Volume>,
    /// Told to go, and not gone yet.
    pub going: Vec<&'a Volume>,
    /// Why others did not go.
    pub failures: Vec<Error>,
}

/// Tells volumes to go, and looks a moment whether they do.
pub async fn remove<'a>(cluster: &Cluster, volumes: &'a [Volume]) -> Pruned<'a> {
    let (mut told, mut pruned) = (Vec::new(), Pruned::default());
    for volume in volumes {
        match removal::delete(cluster, volume).await {
            Ok(()) => told.push(volume),
            Err(error) => pruned.failures.push(error),
        }
    }
    let patience = Patience::moment();
    for volume in told {
        match removal::gone(cluster, volume, patience).await {
            Ok(Outcome::Done(_)) => pruned.removed.push(volume),
            Ok(Outcome::UnderWay(_)) => pruned.going.push(volume),
            Err(error) => pruned.failures.push(error),
        }
    }
    pruned
}

/// Bytes that come free with Volumes.
pub fn frees(volumes: &[&Volume]) -> u64 {
    let of_one = |volume: &&Volume| {
        let used = volume.status.as_ref().and_then(|status| status.used.as_deref());
        match volume.spec.deletion_policy {
            DeletionPolicy::Delete => used.and_then(|used| parse_bytes(used).ok()).unwrap_or(0),
            DeletionPolicy::Retain => 0,
        }
    };
    volumes.iter().map(of_one).fold(0, u64::saturating_add)
}

/// What would miss the Volume, or make it again without its data.
fn kept_by(volume: &Volume) -> Option<String> {
    if let Some(owner) = volume.owner_references().first() {
        return Some(format!("owned by {} '{}'", owner.kind, owner.name));
    }
    MADE_BY_TOOLS.iter().find_map(|key| {
        let value = volume.labels().get(*key).or_else(|| volume.annotations().get(*key))?;
        Some(format!("part of what {key}={value} makes"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_owned_or_made_by_a_tool_is_kept() {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "1"}]);
        for (metadata, why) in [
            (json!({}), None),
            (json!({"labels": {"team": "blue"}}), None),
            (json!({"ownerReferences": owner}), Some("owned by StatefulSet 'db'")),
            (json!({"labels": {"app.kubernetes.io/instance": "shop"}}), Some("instance=shop")),
            (json!({"annotations": {"meta.helm.sh/release-name": "shop"}}), Some("release-name=shop")),
        ] {
            let mut volume: Value = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume",
                "metadata": metadata, "spec": {"size": "1Gi", "tier": "hdd"}});
            volume["metadata"]["name"] = json!("data");
            let said = kept_by(&serde_json::from_value(volume).unwrap());
            assert_eq!(said.is_some(), why.is_some(), "{metadata}: {said:?}");
            assert!(said.unwrap_or_default().contains(why.unwrap_or_default()), "{metadata}");
        }
    }
}
