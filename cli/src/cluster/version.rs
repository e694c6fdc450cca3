//! `version`: of this command, the API server, the controller and each node's plugin, and where they differ.

use tierce_client::{
    Connection,
    version::{self, Report},
};

use crate::{args::Output, failure::Failure, output};

pub(super) async fn show(connection: &Connection, output: Output) -> Result<(), Failure> {
    // The client's own version is told also where no cluster answers.
    let (report, asked) = version::ask_all(env!("CARGO_PKG_VERSION"), connection).await;
    match output {
        Output::Json => output::json(&report)?,
        Output::Yaml => output::yaml(&report)?,
        Output::Name => output::lines([report.client])?,
        Output::Table | Output::Wide => table(&report, output == Output::Wide)?,
    }
    Ok(asked?)
}

fn table(report: &Report, wide: bool) -> std::io::Result<()> {
    let mut rows = vec![vec!["Client:".to_owned(), report.client.to_owned()]];
    if let Some(kubernetes) = &report.kubernetes {
        rows.push(vec!["Kubernetes:".to_owned(), kubernetes.clone()]);
    }
    if wide {
        rows.extend(report.programs.iter().map(|one| {
            vec![
                format!("{}:", one.program),
                one.version.clone(),
                format!("node {}, pod {}", one.node, one.pod),
            ]
        }));
    } else {
        let mut groups: Vec<(&str, &str, Vec<&str>)> = Vec::new();
        for one in &report.programs {
            match groups
                .iter_mut()
                .find(|(program, version, _)| *program == one.program && *version == one.version)
            {
                Some((.., nodes)) => nodes.push(&one.node),
                None => groups.push((one.program, &one.version, vec![&one.node])),
            }
        }
        rows.extend(groups.into_iter().map(|(program, version, nodes)| {
            vec![format!("{program}:"), version.to_owned(), format!("on {}", nodes.join(", "))]
        }));
    }
    rows.extend(report.skew.iter().map(|skew| vec!["Skew:".to_owned(), skew.clone()]));
    output::columns(&rows)
}
