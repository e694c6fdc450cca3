//! `system df`: the space that volumes take.

use serde::Serialize;

use super::{census::Census, view::View, volumes::Volumes};
use crate::{
    args::{DiskUsage, Output},
    failure::Failure,
    output, sizes,
};

/// One kind of thing that takes space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    r#type: &'static str,
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    usage: Vec<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<Vec<View>>,
}

pub(super) fn show(volumes: &Volumes, arguments: &DiskUsage, output: Output) -> Result<(), Failure> {
    let census = Census::take()?;
    let (found, _) = volumes.list()?;
    let views =
        found.iter().map(|volume| View::of(volumes, volume, &census)).collect::<Result<Vec<_>, _>>()?;
    let idle = || views.iter().filter(|view| view.in_use_by.is_empty());
    let usage = Usage {
        r#type: "Local Volumes",
        total: views.len(),
        active: views.len() - idle().count(),
        size: views.iter().map(|view| view.size).sum(),
        reclaimable: idle().map(|view| view.size).sum(),
    };
    let mut report = Report { usage: vec![usage], volumes: None };
    if arguments.details {
        report.volumes = Some(views);
    }
    match output {
        Output::Json => output::json(&report)?,
        Output::Yaml => output::yaml(&report)?,
        Output::Name => output::lines(report.usage.iter().map(|usage| usage.r#type))?,
        Output::Table | Output::Wide => table(&report)?,
    }
    Ok(())
}

fn table(report: &Report) -> std::io::Result<()> {
    let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![row(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"])];
    for usage in &report.usage {
        let percent = (u128::from(usage.reclaimable) * 100).checked_div(u128::from(usage.size)).unwrap_or(0);
        let reclaimable = format!("{} ({percent}%)", sizes::used(usage.reclaimable));
        let (total, active) = (usage.total.to_string(), usage.active.to_string());
        rows.push(row(&[usage.r#type, &total, &active, &sizes::used(usage.size), &reclaimable]));
    }
    output::columns(&rows)?;
    let Some(volumes) = &report.volumes else { return Ok(()) };
    output::lines([""])?;
    let mut rows = vec![row(&["VOLUME NAME", "SIZE", "IN USE BY"])];
    rows.extend(
        volumes.iter().map(|view| row(&[&view.name, &sizes::used(view.size), &view.in_use_by.join(", ")])),
    );
    output::columns(&rows)
}
