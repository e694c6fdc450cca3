//! `system df`: space per tier, pool and node. What pools share counts once.

use std::collections::BTreeMap;

use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;
use tierce_crds::{NodeStorage, PoolState, StoragePool, Volume};

use super::{Error, access::Cluster, list::chosen, users::Users};
use crate::{
    args::{DiskUsage, Output, Selection},
    failure::Failure,
    output, sizes,
};

/// One pool on one node. Bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    tier: String,
    pool: String,
    /// `None`: all nodes together, for those who may not see single ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// `Ready`, or why not.
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<u64>,
    /// What it lies on: pools of one node with equal values share it. `None`: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    capacity: u64,
    promised: u64,
    used: u64,
    /// What nothing takes of what it lies on.
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<u64>,
    /// The largest volume that would be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    largest: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    usage: Vec<Usage>,
    /// Where several pools lie on one disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shared: Vec<Shared>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<Vec<VolumeUsage>>,
}

/// One disk of a node below several pools. Bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shared {
    node: String,
    disk: String,
    pools: Vec<String>,
    capacity: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<u64>,
}

/// One Volume of the namespace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VolumeUsage {
    name: String,
    tier: String,
    size: String,
    used: Option<String>,
    in_use_by: Vec<String>,
}

pub(super) async fn show(cluster: &Cluster, arguments: &DiskUsage, output: Output) -> Result<(), Failure> {
    let usage = match by_node(cluster).await {
        // The nodes' reports are for administrators; what pools have together everybody may see.
        Err(Error::RefusedByServer { .. }) => by_pool(cluster).await?,
        other => other?,
    };
    let mut report = Report { shared: shared(&usage), usage, volumes: None };
    if arguments.details {
        let users = Users::ask(cluster, false).await?;
        let volumes = chosen(cluster, &Selection::default(), &[]).await?;
        report.volumes = Some(volumes.iter().map(|volume| of_volume(volume, &users)).collect());
    }
    match output {
        Output::Json => output::json(&report)?,
        Output::Yaml => output::yaml(&report)?,
        Output::Name => {
            let mut pools: Vec<&str> = report.usage.iter().map(|usage| usage.pool.as_str()).collect();
            pools.dedup();
            output::lines(pools)?;
        }
        Output::Table | Output::Wide => table(&report)?,
    }
    Ok(())
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
fn shared(usage: &[Usage]) -> Vec<Shared> {
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
fn together(usages: &[&Usage]) -> (Option<u64>, Option<u64>) {
    // Pools of all nodes together may share their disks, and nobody says which.
    if usages.iter().any(|usage| usage.node.is_none()) {
        return (None, None);
    }
    let mut disks: BTreeMap<(&Option<String>, Option<&str>, &str), (u64, Option<u64>)> = BTreeMap::new();
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

fn table(report: &Report) -> std::io::Result<()> {
    let text = |cells: [&str; 10]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![text([
        "TIER",
        "POOL",
        "NODE",
        "VOLUMES",
        "CAPACITY",
        "PROMISED",
        "USED",
        "FREE",
        "LARGEST NEW",
        "STATE",
    ])];
    let mut tiers: BTreeMap<&str, Vec<&Usage>> = BTreeMap::new();
    for usage in &report.usage {
        tiers.entry(&usage.tier).or_default().push(usage);
    }
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let number = |number: Option<u64>| or_none(number.map(|number| number.to_string()));
    let bytes = |bytes: Option<u64>| or_none(bytes.map(sizes::roughly));
    let sum = |tier: &str, usages: &[&Usage]| {
        let (capacity, free) = together(usages);
        let volumes = usages.iter().map(|usage| usage.volumes).sum::<Option<u64>>();
        let working = usages.iter().filter(|usage| usage.state == "Ready").count();
        text([
            tier,
            "all",
            "all",
            &number(volumes),
            &bytes(capacity),
            &sizes::roughly(usages.iter().map(|usage| usage.promised).sum()),
            &sizes::roughly(usages.iter().map(|usage| usage.used).sum()),
            &bytes(free),
            &bytes(usages.iter().filter_map(|usage| usage.largest).max()),
            &format!("{working}/{} Ready", usages.len()),
        ])
    };
    for (tier, usages) in &tiers {
        rows.extend(usages.iter().map(|usage| {
            text([
                tier,
                &usage.pool,
                usage.node.as_deref().unwrap_or("all"),
                &number(usage.volumes),
                &sizes::roughly(usage.capacity),
                &sizes::roughly(usage.promised),
                &sizes::roughly(usage.used),
                &bytes(usage.free),
                &bytes(usage.largest),
                &usage.state,
            ])
        }));
        if usages.len() > 1 {
            rows.push(sum(tier, usages));
        }
    }
    if tiers.len() > 1 {
        rows.push(sum("all", &report.usage.iter().collect::<Vec<_>>()));
    }
    output::columns(&rows)?;
    output::lines(report.shared.iter().map(|shared| {
        format!(
            "Pools {} of node {} share one disk: {} of it are free, for all of them together",
            shared.pools.join(", "),
            shared.node,
            bytes(shared.free)
        )
    }))?;
    if report.usage.len() > 1 && report.usage.iter().any(|usage| usage.node.is_none()) {
        output::lines([
            "Pools may share their disks, which only those may see who may read nodestorages: capacities are not added up",
        ])?;
    }
    let Some(volumes) = &report.volumes else { return Ok(()) };
    output::lines([""])?;
    let mut rows = vec![["VOLUME NAME", "TIER", "SIZE", "USED", "IN USE BY"].map(str::to_owned).to_vec()];
    rows.extend(volumes.iter().map(|volume| {
        let used = volume.used.clone().unwrap_or_else(|| "-".to_owned());
        let pods = super::users::in_words(&volume.in_use_by);
        vec![volume.name.clone(), volume.tier.clone(), volume.size.clone(), used, pods]
    }));
    output::columns(&rows)
}
