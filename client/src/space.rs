//! Space per tier, pool and node. What pools share counts once.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;
use tierce_crds::{NodeStorage, PoolState, PoolStatus, StoragePool, Volume};

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
    let reports = Api::<NodeStorage>::all(cluster.client.clone()).list(&ListParams::default()).await;
    let reports = reports.map_err(|error| cluster.failed("read what the nodes have", error))?;
    let pools = Api::<StoragePool>::all(cluster.client.clone()).list(&ListParams::default()).await;
    let pools = pools.map_err(|error| cluster.failed("read what the pools have", error))?;
    let nodes = Api::<Node>::all(cluster.client.clone()).list_metadata(&ListParams::default()).await;
    let labels = match nodes.map_err(|error| cluster.failed("read the nodes", error)) {
        Ok(nodes) => {
            Some(nodes.into_iter().map(|node| (node.name_any(), node.metadata.labels.unwrap_or_default())))
        }
        // Who may not see them hears what each node says of the pools that there are.
        Err(Error::RefusedByServer { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(given(reports.items, &pools.items, labels.map(Iterator::collect).as_ref()))
}

/// What nodes report of the pools that an administrator gave to them. What a node says of itself is not enough: whoever has its token may say
/// anything. `labels`: of each node, where they can be read.
fn given(
    reports: Vec<NodeStorage>,
    pools: &[StoragePool],
    labels: Option<&BTreeMap<String, BTreeMap<String, String>>>,
) -> Vec<Usage> {
    let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let none = BTreeMap::new();
    let mut found: Vec<Usage> = Vec::new();
    for node in reports {
        let name = node.name_any();
        let is_given = |reported: &PoolStatus| {
            let known = pools.iter().find(|pool| pool.name_any() == reported.name);
            known.is_some_and(|known| {
                let selects = |labels: &BTreeMap<String, BTreeMap<String, String>>| {
                    known.spec.selects(labels.get(&name).unwrap_or(&none))
                };
                known.spec.tier == reported.tier && labels.is_none_or(selects)
            })
        };
        for pool in node.status.unwrap_or_default().pools.into_iter().filter(is_given) {
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
    found
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
    let mut free = disks.values().filter(|(capacity, _)| *capacity > 0).map(|(_, free)| *free);
    let free = free.try_fold(0_u64, |sum, free| Some(sum.saturating_add(free?)));
    (Some(disks.values().fold(0_u64, |sum, (capacity, _)| sum.saturating_add(*capacity))), free)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_believed_of_the_pools_that_were_given_to_it_alone_and_no_sum_overflows() {
        let pool = |name: &str, selector: serde_json::Value| {
            let object = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool", "metadata": {"name": name},
                "spec": {"tier": "ssd", "nodeSelector": selector, "directory": {"path": "/p/q"}}});
            serde_json::from_value::<StoragePool>(object).unwrap()
        };
        let pools = [pool("here", json!({})), pool("trusted", json!({"zone": "trusted"}))];
        let says = |name: &str, tier: &str| {
            json!({"name": name, "tier": tier, "state": "Ready", "capacityBytes": i64::MAX, "freeBytes": i64::MAX, "usedBytes": 0,
                "promisedBytes": 0, "maxVolumeBytes": 0, "volumes": 0, "disk": name})
        };
        let report = |node: &str| {
            let all =
                [says("here", "ssd"), says("here", "hdd"), says("trusted", "ssd"), says("forged", "ssd")];
            let object = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeStorage", "metadata": {"name": node},
                "spec": {"nodeName": node}, "status": {"pools": all}});
            serde_json::from_value::<NodeStorage>(object).unwrap()
        };
        let reports = || vec![report("n1"), report("n2"), report("n3")];
        let labels = [("n1".to_owned(), [("zone".to_owned(), "trusted".to_owned())].into())].into();
        let found = given(reports(), &pools, Some(&labels));
        let told: Vec<_> = found.iter().map(|u| (u.pool.as_str(), u.node.as_deref().unwrap())).collect();
        assert_eq!(told, [("here", "n1"), ("here", "n2"), ("here", "n3"), ("trusted", "n1")]);
        assert_eq!(given(reports(), &pools, None).len(), 6, "without the nodes' labels");
        let all: Vec<_> = found.iter().collect();
        assert_eq!(together(&all), (Some(u64::MAX), Some(u64::MAX)));
    }
}
