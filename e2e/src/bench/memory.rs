//! Resident memory of both programs.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::json;
use tierce_crds::{Volume, names};

use super::client::Client;
use super::figures::{Figure, Unit};
use super::machine::resident_mebibytes;
use crate::sanity::stand::{Stand, TIER};

const VOLUMES: usize = 1000;
const MIB: i64 = 1 << 20;
const NAMESPACE: &str = "default";
/// Longer than the controller takes to make a claim on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Idle, and after many Volumes were made.
pub(super) async fn measure(stand: &Stand) -> Result<Vec<Figure>> {
    let programs = [("tierce-controller", 64.0), ("tierce-csi", 24.0)];
    let mut figures = Vec::new();
    for (program, _) in programs {
        let idle = resident_mebibytes(stand.pid(program)?)?;
        figures.push(Figure::new(format!("memory of {program}, idle"), idle, Unit::Mebibytes).note("VmRSS"));
    }
    let (api, client) = (stand.client(), Client::of(stand).await?);
    futures::stream::iter(0..VOLUMES)
        .map(|index| {
            let (api, client) = (api.clone(), client.clone());
            async move { make(&api, client, &format!("memory-{index}")).await }
        })
        .buffer_unordered(8)
        .try_collect::<()>()
        .await?;
    // The last status and the node's report are still on their way.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (program, limit) in programs {
        let full = resident_mebibytes(stand.pid(program)?)?;
        figures.push(
            Figure::new(format!("memory of {program}, {VOLUMES} volumes"), full, Unit::Mebibytes)
                .at_most(limit)
                .note("VmRSS, Volumes with claim and PersistentVolume over the simulator, all on one node"),
        );
    }
    Ok(figures)
}

/// A Volume, and what the provisioner and the binder of claims would do for it: nobody else does here.
async fn make(api: &kube::Client, mut client: Client, name: &str) -> Result<()> {
    let volume: Volume = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"size": "16Mi", "tier": TIER, "binding": "Immediate"},
    }))?;
    Api::<Volume>::namespaced(api.clone(), NAMESPACE).create(&PostParams::default(), &volume).await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(api.clone(), NAMESPACE);
    let is_there = |claim: Option<&PersistentVolumeClaim>| claim.is_some();
    let claim = tokio::time::timeout(PATIENCE, await_condition(claims.clone(), name, is_there)).await??;
    let uid = claim.and_then(|claim| claim.metadata.uid).context("a claim has a UID")?;
    let id = client.create_for((NAMESPACE, name), &format!("pvc-{uid}"), 16 * MIB).await?;
    let bound: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": id},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "16Mi"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": NAMESPACE, "name": name, "uid": uid},
            "csi": {"driver": names::DRIVER, "volumeHandle": id},
            "persistentVolumeReclaimPolicy": "Delete",
        },
    }))?;
    Api::<PersistentVolume>::all(api.clone()).create(&PostParams::default(), &bound).await?;
    let merge = PatchParams::default();
    claims.patch(name, &merge, &Patch::Merge(json!({"spec": {"volumeName": id}}))).await?;
    let status = json!({"status": {"phase": "Bound", "capacity": {"storage": "16Mi"}, "accessModes": ["ReadWriteOnce"]}});
    claims.patch_status(name, &merge, &Patch::Merge(status)).await.map(drop)?;
    Ok(())
}
