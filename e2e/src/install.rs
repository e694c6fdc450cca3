//! Installs Tierce on a local cluster as a user would: with Helm, from the chart.

use anyhow::Result;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::command;
use crate::images::ours::Ours;

/// The namespace that the chart is installed in.
pub const NAMESPACE: &str = "tierce-system";

/// Installs or upgrades to what these images belong to, and waits until everything is Ready. `values` are `--set` arguments.
pub fn install(cluster: &Cluster, images: &Ours, values: &[&str]) -> Result<()> {
    install_tiers(cluster, images, values, None)
}

/// The same with these tiers instead of the chart's own.
pub fn install_tiers(cluster: &Cluster, images: &Ours, values: &[&str], tiers: Option<&Value>) -> Result<()> {
    let mut helm = cluster.command("helm")?;
    helm.args(["upgrade", "--install", "tierce"])
        .arg(&images.chart)
        .args(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "180s"])
        .args(["--set", &format!("image.tag={}", images.tag)])
        // A cluster of our own has no snapshot controller yet.
        .args(["--set", "snapshots.enabled=true", "--set", "snapshot-controller.enabled=true"]);
    for value in values {
        helm.args(["--set", value]);
    }
    if let Some(tiers) = tiers {
        helm.args(["--set-json", &format!("tiers={tiers}")]);
    }
    command::run(&mut helm).map(drop)
}
