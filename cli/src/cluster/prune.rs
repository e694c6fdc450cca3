//! `volume prune`: removes what nothing uses and nobody keeps, once it was shown.

use std::collections::BTreeSet;

use kube::ResourceExt;
use tierce_crds::{DeletionPolicy, Volume, parse_bytes};

use super::{
    Error,
    access::Cluster,
    list::{chosen, shown_name},
    removal,
    users::Users,
    wait::{Outcome, Patience},
};
use crate::{
    args::Prune,
    failure::{self, Failure},
    output, sizes, terminal,
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

pub(super) async fn prune(cluster: &Cluster, arguments: &Prune) -> Result<(), Failure> {
    let everywhere = arguments.selection.all_namespaces;
    if !arguments.all && arguments.selection.selector.is_none() && arguments.filters.is_empty() {
        return Err(Failure::usage(
            "every volume of a cluster has a name, and somebody may count on it: choose by label with -l or --filter, or all that no pod uses with --all; --dry-run only shows them",
        ));
    }
    let mut unused = unused(cluster, arguments).await?;
    for (volume, why) in &unused.kept {
        terminal::note(&format!(
            "Volume '{}' stays, as it is {why}; tierce volume rm removes it all the same",
            shown_name(volume, everywhere)
        ));
    }
    if arguments.dry_run {
        return Ok(show(&unused.going, everywhere)?);
    }
    if !arguments.force && !unused.going.is_empty() {
        let place = if everywhere {
            "all namespaces".to_owned()
        } else {
            format!("namespace '{}'", cluster.namespace)
        };
        output::lines([format!(
            "WARNING! This will remove {} of {place} ({}), which no pod uses:",
            match unused.going.len() {
                1 => "1 volume".to_owned(),
                several => format!("{several} volumes"),
            },
            cluster.context_and_server(),
        )])?;
        show(&unused.going, everywhere)?;
        if !terminal::confirmed("Are you sure you want to continue?")? {
            return Ok(());
        }
        output::lines([""])?;
        // Of what was shown, what may still go: an answer takes its time.
        let shown: BTreeSet<Option<String>> = unused.going.iter().map(ResourceExt::uid).collect();
        unused = self::unused(cluster, arguments).await?;
        unused.going.retain(|volume| shown.contains(&volume.uid()));
    }
    remove(cluster, &unused.going, everywhere).await
}

async fn remove(cluster: &Cluster, volumes: &[Volume], everywhere: bool) -> Result<(), Failure> {
    let (mut told, mut failed) = (Vec::new(), false);
    for volume in volumes {
        match removal::delete(cluster, volume).await {
            Ok(()) => told.push(volume),
            Err(error) => {
                failed = true;
                failure::tell(&error, false);
            }
        }
    }
    let (mut removed, mut going, mut freed, mut to_be_freed) = (Vec::new(), Vec::new(), 0_u64, 0_u64);
    let patience = Patience::moment();
    for volume in told {
        let (names, bytes) = match removal::gone(cluster, volume, patience).await? {
            Outcome::Done(_) => (&mut removed, &mut freed),
            Outcome::UnderWay(_) => (&mut going, &mut to_be_freed),
        };
        names.push(shown_name(volume, everywhere));
        *bytes = bytes.saturating_add(frees(volume));
    }
    for (head, names) in [("Deleted Volumes:", removed), ("Told to go, and not gone yet:", going)] {
        if !names.is_empty() {
            output::lines([head.to_owned()].into_iter().chain(names).chain([String::new()]))?;
        }
    }
    output::lines([format!("Total reclaimed space: {}", sizes::used(freed))])?;
    if to_be_freed > 0 {
        output::lines([format!("Still to be reclaimed: {}", sizes::used(to_be_freed))])?;
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

/// Bytes that come free with a Volume.
fn frees(volume: &Volume) -> u64 {
    let used = volume.status.as_ref().and_then(|status| status.used.as_deref());
    match volume.spec.deletion_policy {
        DeletionPolicy::Delete => used.and_then(|used| parse_bytes(used).ok()).unwrap_or(0),
        DeletionPolicy::Retain => 0,
    }
}

fn show(volumes: &[Volume], everywhere: bool) -> std::io::Result<()> {
    let mut rows = vec![["NAME", "SIZE", "USED", "TIER", "WHEN REMOVED"].map(str::to_owned).to_vec()];
    rows.extend(volumes.iter().map(|volume| {
        let used = volume.status.as_ref().and_then(|status| status.used.clone());
        vec![
            shown_name(volume, everywhere),
            volume.spec.size.clone(),
            used.unwrap_or_else(|| "-".to_owned()),
            volume.spec.tier.clone(),
            match volume.spec.deletion_policy {
                DeletionPolicy::Delete => "the data goes".to_owned(),
                DeletionPolicy::Retain => "the data stays on its node".to_owned(),
            },
        ]
    }));
    output::columns(&rows)
}

/// Volumes that no pod uses.
struct Unused {
    going: Vec<Volume>,
    /// Those that something else would miss, and why.
    kept: Vec<(Volume, String)>,
}

async fn unused(cluster: &Cluster, arguments: &Prune) -> Result<Unused, Error> {
    let found = chosen(cluster, &arguments.selection, &arguments.filters).await?;
    let users = Users::ask(cluster, arguments.selection.all_namespaces).await?;
    let mut unused = Unused { going: Vec::new(), kept: Vec::new() };
    for volume in found {
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
