//! `system df`: the space that volumes take.

use std::collections::BTreeMap;

use serde::Serialize;
use tierce_engine::{PoolReport, PoolUsage};

use super::{
    devices::Devices,
    leftovers::Leftover,
    listing,
    view::{SnapshotView, View},
    volumes::Volumes,
};
use crate::{
    args::{DiskUsage, Output},
    config::LOCAL_POOL,
    failure::Failure,
    output, sizes, terminal,
};

/// One kind of thing that takes space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    r#type: String,
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

/// A pool that the configuration adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PoolSpace {
    name: String,
    /// Bytes that volumes may still get.
    available: u64,
    /// Bytes that they were promised.
    promised: u64,
    /// Bytes that it has.
    capacity: u64,
    /// Bytes of these that nothing takes.
    free: u64,
    /// Why it can't be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

impl PoolSpace {
    fn of(report: PoolReport) -> Self {
        let (usage, trouble) = match report.result {
            Ok(usage) => (usage, report.warning),
            Err(error) => (PoolUsage::default(), Some(error)),
        };
        Self {
            name: report.name,
            available: usage.available_bytes,
            promised: usage.promised_bytes,
            capacity: usage.capacity_bytes,
            free: usage.free_bytes,
            trouble: trouble.map(|error| error.reason),
        }
    }
}

/// What removals and interrupted commands left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Left {
    path: String,
    size: u64,
}

impl Left {
    fn of(left: &Leftover) -> Self {
        let path = left.path.display().to_string();
        if !left.whole {
            terminal::note(&format!(
                "Warning: some folders below {path} can't be read: its size is at least what is shown"
            ));
        }
        Self { path, size: left.bytes }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    usage: Vec<Usage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    leftovers: Vec<Left>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    snapshots_of_removed_volumes: Vec<SnapshotView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<Vec<View>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pools: Vec<PoolSpace>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shared_disks: Vec<SharedDisk>,
}

/// A disk below several pools. Bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SharedDisk {
    pools: Vec<String>,
    capacity: u64,
    free: u64,
}

/// The disks below several pools.
fn shared_disks(reports: &[PoolReport]) -> Vec<SharedDisk> {
    let mut disks: BTreeMap<u64, SharedDisk> = BTreeMap::new();
    for (name, usage) in
        reports.iter().filter_map(|report| Some((&report.name, report.result.as_ref().ok()?)))
    {
        let (capacity, free) = (usage.capacity_bytes, usage.free_bytes);
        let disk = disks.entry(usage.disk).or_insert(SharedDisk { pools: Vec::new(), capacity, free });
        disk.pools.push(name.clone());
    }
    disks.into_values().filter(|disk| disk.pools.len() > 1).collect()
}

pub(super) fn show(volumes: &Volumes, arguments: &DiskUsage, output: Output) -> Result<(), Failure> {
    let (found, unseen) = volumes.list()?;
    for unseen in unseen {
        terminal::note(&format!("Warning: {unseen}"));
    }
    let views = listing::views(volumes, &found)?;
    let reports = volumes.devices().map(Devices::reports).unwrap_or_default();
    let shared_disks = shared_disks(&reports);
    let further = reports.into_iter().filter(|report| report.name != LOCAL_POOL);
    let pools: Vec<PoolSpace> = further.map(PoolSpace::of).collect();
    let is_further = |view: &View| pools.iter().any(|pool| view.pool.as_ref() == Some(&pool.name));
    let (further, local): (Vec<&View>, Vec<&View>) = views.iter().partition(|view| is_further(view));
    let mut usage = vec![used("Local Volumes".to_owned(), &local)];
    for pool in &pools {
        let own: Vec<&View> =
            further.iter().copied().filter(|view| view.pool.as_ref() == Some(&pool.name)).collect();
        usage.push(used(format!("Pool {}", pool.name), &own));
    }
    let leftovers: Vec<Left> = volumes.leftovers()?.iter().map(Left::of).collect();
    if !leftovers.is_empty() {
        let size = leftovers.iter().map(|left| left.size).sum();
        let r#type = "Leftovers".to_owned();
        usage.push(Usage { r#type, total: leftovers.len(), active: 0, size, reclaimable: size });
    }
    let kept: Vec<SnapshotView> = volumes
        .kept_snapshots(None)?
        .iter()
        .map(|kept| SnapshotView::of(&kept.volume.full(), &kept.snapshot))
        .collect();
    if !kept.is_empty() {
        let size = kept.iter().map(|snapshot| snapshot.size).sum();
        let r#type = "Snapshots of removed volumes".to_owned();
        // No prune takes them.
        usage.push(Usage { r#type, total: kept.len(), active: 0, size, reclaimable: 0 });
    }
    let mut report =
        Report { usage, leftovers, snapshots_of_removed_volumes: kept, volumes: None, pools, shared_disks };
    if arguments.details {
        report.volumes = Some(views);
    }
    match output {
        Output::Json => output::json(&report)?,
        Output::Yaml => output::yaml(&report)?,
        Output::Name => output::lines(report.usage.iter().map(|usage| &usage.r#type))?,
        Output::Table | Output::Wide => table(&report)?,
    }
    Ok(())
}

fn used(r#type: String, views: &[&View]) -> Usage {
    let idle = || views.iter().filter(|view| view.in_use_by.is_empty());
    Usage {
        r#type,
        total: views.len(),
        active: views.len() - idle().count(),
        size: views.iter().map(|view| view.size).sum(),
        reclaimable: idle().map(|view| view.size).sum(),
    }
}

fn table(report: &Report) -> std::io::Result<()> {
    let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![row(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"])];
    for usage in &report.usage {
        let percent = (u128::from(usage.reclaimable) * 100).checked_div(u128::from(usage.size)).unwrap_or(0);
        let reclaimable = format!("{} ({percent}%)", sizes::used(usage.reclaimable));
        let (total, active) = (usage.total.to_string(), usage.active.to_string());
        rows.push(row(&[&usage.r#type, &total, &active, &sizes::used(usage.size), &reclaimable]));
    }
    output::columns(&rows)?;
    if !report.leftovers.is_empty() {
        output::lines(["", "system prune removes what is left, once it can:"])?;
        let left = report.leftovers.iter().map(|left| row(&[&left.path, &sizes::used(left.size)]));
        output::columns(&left.collect::<Vec<_>>())?;
    }
    if !report.snapshots_of_removed_volumes.is_empty() {
        output::lines(["", "volume snapshot rm VOLUME SNAPSHOT removes what removed volumes left:"])?;
        let kept = report.snapshots_of_removed_volumes.iter();
        let kept = kept.map(|one| row(&[&one.volume, &one.name, &sizes::used(one.size)]));
        output::columns(&kept.collect::<Vec<_>>())?;
    }
    let Some(volumes) = &report.volumes else { return Ok(()) };
    output::lines([""])?;
    if !report.pools.is_empty() {
        let mut rows = vec![row(&["POOL", "CAPACITY", "PROMISED", "FREE", "AVAILABLE", "TROUBLE"])];
        rows.extend(report.pools.iter().map(|pool| {
            let [capacity, promised, free, available] =
                [pool.capacity, pool.promised, pool.free, pool.available].map(sizes::used);
            let trouble = pool.trouble.as_deref().unwrap_or_default();
            row(&[&pool.name, &capacity, &promised, &free, &available, trouble])
        }));
        output::columns(&rows)?;
        output::lines(report.shared_disks.iter().map(|disk| {
            format!(
                "Pools {} share one disk of {}: {} of it are free, for all of them together",
                disk.pools.join(", "),
                sizes::used(disk.capacity),
                sizes::used(disk.free)
            )
        }))?;
        output::lines([""])?;
    }
    let mut rows = vec![row(&["VOLUME NAME", "SIZE", "IN USE BY"])];
    rows.extend(
        volumes.iter().map(|view| row(&[&view.name, &sizes::used(view.size), &view.in_use_by.join(", ")])),
    );
    output::columns(&rows)
}
