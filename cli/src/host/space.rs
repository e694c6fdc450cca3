//! `system df`: the space that volumes take.

use serde::Serialize;
use tierce_engine::{PoolReport, PoolUsage};

use super::{census::Census, devices::Devices, view::View, volumes::Volumes};
use crate::{
    args::{DiskUsage, Output},
    failure::Failure,
    output, sizes,
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
            trouble: trouble.map(|error| error.reason),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    usage: Vec<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<Vec<View>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pools: Vec<PoolSpace>,
}

pub(super) fn show(volumes: &Volumes, arguments: &DiskUsage, output: Output) -> Result<(), Failure> {
    let census = Census::take()?;
    let (found, unseen) = volumes.list()?;
    for unseen in unseen {
        eprintln!("Warning: {unseen}");
    }
    let views =
        found.iter().map(|volume| View::of(volumes, volume, &census)).collect::<Result<Vec<_>, _>>()?;
    let pools: Vec<PoolSpace> =
        volumes.devices().map(Devices::further).unwrap_or_default().into_iter().map(PoolSpace::of).collect();
    let is_further = |view: &View| pools.iter().any(|pool| view.pool.as_ref() == Some(&pool.name));
    let (further, local): (Vec<&View>, Vec<&View>) = views.iter().partition(|view| is_further(view));
    let mut usage = vec![used("Local Volumes".to_owned(), &local)];
    for pool in &pools {
        let own: Vec<&View> =
            further.iter().copied().filter(|view| view.pool.as_ref() == Some(&pool.name)).collect();
        usage.push(used(format!("Pool {}", pool.name), &own));
    }
    let mut report = Report { usage, volumes: None, pools };
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
    let Some(volumes) = &report.volumes else { return Ok(()) };
    output::lines([""])?;
    if !report.pools.is_empty() {
        let mut rows = vec![row(&["POOL", "CAPACITY", "PROMISED", "AVAILABLE", "TROUBLE"])];
        rows.extend(report.pools.iter().map(|pool| {
            let [capacity, promised, available] =
                [pool.capacity, pool.promised, pool.available].map(sizes::used);
            row(&[&pool.name, &capacity, &promised, &available, pool.trouble.as_deref().unwrap_or_default()])
        }));
        output::columns(&rows)?;
        output::lines([""])?;
    }
    let mut rows = vec![row(&["VOLUME NAME", "SIZE", "IN USE BY"])];
    rows.extend(
        volumes.iter().map(|view| row(&[&view.name, &sizes::used(view.size), &view.in_use_by.join(", ")])),
    );
    output::columns(&rows)
}
