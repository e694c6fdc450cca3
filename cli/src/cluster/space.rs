//! `system df`: space per tier, pool and node. What pools share counts once.

use std::collections::BTreeMap;

use serde::Serialize;
use tierce_client::{
    Cluster, in_words,
    space::{self, Shared, Usage, VolumeUsage, together},
};
use tierce_crds::roughly;

use crate::{
    args::{DiskUsage, Output},
    failure::Failure,
    output,
};

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

pub(super) async fn show(cluster: &Cluster, arguments: &DiskUsage, output: Output) -> Result<(), Failure> {
    let usage = space::usage(cluster).await?;
    let mut report = Report { shared: space::shared(&usage), usage, volumes: None };
    if arguments.details {
        report.volumes = Some(space::of_volumes(cluster).await?);
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
    let bytes = |bytes: Option<u64>| or_none(bytes.map(roughly));
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
            &roughly(usages.iter().map(|usage| usage.promised).sum()),
            &roughly(usages.iter().map(|usage| usage.used).sum()),
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
                &roughly(usage.capacity),
                &roughly(usage.promised),
                &roughly(usage.used),
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
        let pods = in_words(&volume.in_use_by);
        vec![volume.name.clone(), volume.tier.clone(), volume.size.clone(), used, pods]
    }));
    output::columns(&rows)
}
