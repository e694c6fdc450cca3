//! Space per tier, pool and node. What pools share counts once.

use std::collections::BTreeMap;

use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;
use tierce_crds::{NodeStorage, PoolState, StoragePool, Volume};

use crate::{
    Cluster, Error, Users,
    list::{Selection, chosen},
};

/// One pool on one node. Bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The tier.
    pub tier: String,
    /// The pool.
    pub pool: String,
    /// `None`: all nodes together, for those who may not see single ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// `Ready`, or why not.
    pub state: String,
    /// How many; `None`: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<u64>,
    /// What it lies on: pools of one node with equal values share it. `None`: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// What it has, less the reserve.
    pub capacity: u64,
    /// What its volumes may take.
    pub promised: u64,
    /// What its volumes take.
    pub used: u64,
    /// What nothing takes of what it lies on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
    /// The largest volume that would be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest: Option<u64>,
}

/// One disk of a node below several pools. Bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shared {
    /// The node.
    pub node: String,
    /// Tells it from other disks of the node.
    pub disk: String,
    /// The pools on it.
    pub pools: Vec<String>,
    /// What it has.
    pub capacity: u64,
    /// What nothing takes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
}

/// One Volume of the namespace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeUsage {
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: String,
    /// The size asked for.
    pub size: String,
    /// What it takes, roughly.
    pub used: Option<String>,
    /// Names of the pods that use it.
    pub in_use_by: Vec<String>,
}

fn of_volume(volume: &Volume, users: &Users) -> VolumeUsage {
    VolumeUsage {
        name: volume.name_any(),
        tier: volume.spec.tier.clone(),
        size: volume.spec.size.clone(),
        used: volume.status.as_ref().and_then(|status| status.used.clone()),
        in_use_by: users.pods(volume),
    }
}

async fn by_node(cluster: &Cluster) -> Result<Vec<Usage>, Error> {
    let nodes = Api::<NodeStorage>::all(cluster.client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.map_err(|error| cluster.failed("read what the nodes have", error))?;
    let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let mut found: Vec<Usage> = Vec::new();
    for node in nodes {
        let name = node.name_any();
        for pool in node.status.unwrap_or_default().pools {
            let state = match pool.state {
                PoolState::Ready => "Ready".to_owned(),
                PoolState::Unavailable => {
                    pool.message.or(pool.reason).unwrap_or_else(|| "Unavailable".to_owned())
                }
            };
            found.push(Usage {
                tier: pool.tier,
                pool: pool.name,
                node: Some(name.clone()),
                state,
                volumes: Some(bytes(pool.volumes)),
                disk: pool.disk,
                capacity: bytes(pool.capacity_bytes),
                free: pool.free_bytes.map(bytes),
                promised: bytes(pool.promised_bytes),
                used: bytes(pool.used_bytes),
                largest: Some(bytes(pool.max_volume_bytes)),
            });
        }
    }
    found.sort_by(|a, b| (&a.tier, &a.pool, &a.node).cmp(&(&b.tier, &b.pool, &b.node)));
    Ok(found)
}

async fn by_pool(cluster: &Cluster) -> Result<Vec<Usage>, Error> {
    let pools = Api::<StoragePool>::all(cluster.client.clone()).list(&ListParams::default()).await;
    let pools = pools.map_err(|error| cluster.failed("read what the pools have", error))?;
    let bytes =
        |text: Option<String>| text.and_then(|text| tierce_crds::parse_bytes(&text).ok()).unwrap_or_default();
    let mut found: Vec<Usage> = pools
        .into_iter()
        .map(|pool| {
            let status = pool.status.clone().unwrap_or_default();
            let ready = tierce_crds::conditions::find(&status.conditions, tierce_crds::conditions::READY);
            let state = match ready {
                Some(ready) if ready.status == "True" => "Ready".to_owned(),
                Some(ready) => ready.message.clone(),
                None => "no node has reported yet".to_owned(),
            };
            Usage {
                tier: pool.spec.tier.clone(),
                pool: pool.name_any(),
                node: None,
                state,
                volumes: None,
                disk: None,
                capacity: bytes(status.capacity),
                free: None,
                promised: bytes(status.promised),
                used: bytes(status.used),
                largest: None,
            }
        })
        .collect();
    found.sort_by(|a, b| (&a.tier, &a.pool).cmp(&(&b.tier, &b.pool)));
    Ok(found)
}

/// The disks below several pools.
pub fn shared(usage: &[Usage]) -> Vec<Shared> {
    let mut disks: BTreeMap<(&str, &str), Vec<&Usage>> = BTreeMap::new();
    for usage in usage {
        if let (Some(node), Some(disk)) = (&usage.node, &usage.disk) {
            disks.entry((node, disk)).or_default().push(usage);
        }
    }
    let several = disks.into_iter().filter(|(_, pools)| pools.len() > 1);
    several
        .map(|((node, disk), pools)| Shared {
            node: node.to_owned(),
            disk: disk.to_owned(),
            pools: pools.iter().map(|usage| usage.pool.clone()).collect(),
            // Each pool keeps a reserve of its own.
            capacity: pools.iter().map(|usage| usage.capacity).max().unwrap_or(0),
            free: pools.iter().filter_map(|usage| usage.free).max(),
        })
        .collect()
}

/// Capacity and free space of several pools together, each disk counted once. `None`: it can't be told.
pub fn together(usages: &[&Usage]) -> (Option<u64>, Option<u64>) {
    // Pools of all nodes together may share their disks, and nobody says which.
    if usages.iter().any(|usage| usage.node.is_none()) {
        return (None, None);
    }
    let mut disks: BTreeMap<_, (u64, Option<u64>)> = BTreeMap::new();
    for usage in usages {
        // One that does not say what it lies on is taken for one that lies alone.
        let alone = if usage.disk.is_none() { usage.pool.as_str() } else { "" };
        let disk = disks.entry((&usage.node, usage.disk.as_deref(), alone)).or_insert((0, usage.free));
        disk.0 = disk.0.max(usage.capacity);
        disk.1 = disk.1.max(usage.free);
    }
    let free = disks.values().filter(|(capacity, _)| *capacity > 0).map(|(_, free)| *free).sum();
    (Some(disks.values().map(|(capacity, _)| capacity).sum()), free)
}

/// The pools by tier and name, on each node for those who may see the nodes' reports, else of all nodes together.
pub async fn usage(cluster: &Cluster) -> Result<Vec<Usage>, Error> {
    match by_node(cluster).await {
        // The nodes' reports are for administrators; what pools have together everybody may see.
        Err(Error::RefusedByServer { .. }) => by_pool(cluster).await,
        other => other,
    }
}

/// The namespace's volumes.
pub async fn of_volumes(cluster: &Cluster) -> Result<Vec<VolumeUsage>, Error> {
    let users = Users::ask(cluster, false).await?;
    let volumes = chosen(cluster, &Selection::default()).await?;
    Ok(volumes.iter().map(|volume| of_volume(volume, &users)).collect())
}
