//! `system df`: space per tier, pool and node.

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
    capacity: u64,
    promised: u64,
    used: u64,
    /// The largest volume that would be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    largest: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    usage: Vec<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<Vec<VolumeUsage>>,
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
    let mut report = Report { usage, volumes: None };
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
                capacity: bytes(pool.capacity_bytes),
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
                capacity: bytes(status.capacity),
                promised: bytes(status.promised),
                used: bytes(status.used),
                largest: None,
            }
        })
        .collect();
    found.sort_by(|a, b| (&a.tier, &a.pool).cmp(&(&b.tier, &b.pool)));
    Ok(found)
}

fn table(report: &Report) -> std::io::Result<()> {
    let text = |cells: [&str; 9]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![text([
        "TIER",
        "POOL",
        "NODE",
        "VOLUMES",
        "CAPACITY",
        "PROMISED",
        "USED",
        "LARGEST NEW",
        "STATE",
    ])];
    let mut tiers: BTreeMap<&str, Vec<&Usage>> = BTreeMap::new();
    for usage in &report.usage {
        tiers.entry(&usage.tier).or_default().push(usage);
    }
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for (tier, usages) in tiers {
        for usage in &usages {
            rows.push(text([
                tier,
                &usage.pool,
                usage.node.as_deref().unwrap_or("all"),
                &number(usage.volumes),
                &sizes::roughly(usage.capacity),
                &sizes::roughly(usage.promised),
                &sizes::roughly(usage.used),
                &usage.largest.map_or_else(|| "-".to_owned(), sizes::roughly),
                &usage.state,
            ]));
        }
        if usages.len() > 1 {
            let sum =
                |field: fn(&Usage) -> u64| sizes::roughly(usages.iter().map(|usage| field(usage)).sum());
            let volumes = usages.iter().map(|usage| usage.volumes).sum::<Option<u64>>();
            let largest = usages.iter().filter_map(|usage| usage.largest).max();
            let working = usages.iter().filter(|usage| usage.state == "Ready").count();
            rows.push(text([
                tier,
                "all",
                "all",
                &number(volumes),
                &sum(|usage| usage.capacity),
                &sum(|usage| usage.promised),
                &sum(|usage| usage.used),
                &largest.map_or_else(|| "-".to_owned(), sizes::roughly),
                &format!("{working}/{} Ready", usages.len()),
            ]));
        }
    }
    output::columns(&rows)?;
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
