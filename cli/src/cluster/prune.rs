//! `volume prune`: shows what would go and where, asks, and removes it.

use kube::ResourceExt;
use serde::Serialize;
use tierce_client::{Cluster, prune};
use tierce_crds::{DeletionPolicy, Volume};

use super::list::{selection, show_objects, shown_name};
use crate::{
    args::{Output, Prune},
    failure::{self, Failure},
    labels::Filter,
    output, sizes, terminal,
};

/// What became of the volumes, and of the bytes that they took.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    volumes_deleted: Vec<String>,
    space_reclaimed: u64,
    /// Told to go, and not gone yet.
    volumes_going: Vec<String>,
    space_still_to_be_reclaimed: u64,
}

pub(super) async fn prune(cluster: &Cluster, arguments: &Prune, output: Output) -> Result<(), Failure> {
    let everywhere = arguments.selection.all_namespaces;
    if !arguments.all && arguments.selection.selector.is_none() && arguments.filters.is_empty() {
        return Err(Failure::usage(
            "every volume of a cluster has a name, and somebody may count on it: choose by label with -l or --filter, or all that no pod uses with --all; --dry-run only shows them",
        ));
    }
    if !output.is_for_people() && !arguments.force && !arguments.dry_run {
        return Err(Failure::unasked());
    }
    let filter = Filter::parse(&arguments.filters)?;
    let selection = selection(&arguments.selection);
    let look = || prune::unused(cluster, &selection, |volume| filter.accepts(volume.labels()));
    let mut unused = look().await?;
    for (volume, why) in &unused.kept {
        terminal::note(&format!(
            "Volume '{}' stays, as it is {why}; tierce volume rm removes it all the same",
            shown_name(volume, everywhere)
        ));
    }
    if arguments.dry_run {
        match output {
            Output::Table | Output::Wide => show(&unused.going, everywhere)?,
            Output::Json | Output::Yaml | Output::Name => show_objects(&unused.going, output)?,
        }
        return Ok(());
    }
    if !arguments.force && !unused.going.is_empty() {
        let place = if everywhere {
            "all namespaces".to_owned()
        } else {
            format!("namespace '{}'", cluster.namespace)
        };
        output::lines([format!(
            "WARNING! This will remove {} of {place} ({}), which no pod uses:",
            match unused.going.len() {
                1 => "1 volume".to_owned(),
                several => format!("{several} volumes"),
            },
            cluster.context_and_server(),
        )])?;
        show(&unused.going, everywhere)?;
        match terminal::confirmed("Are you sure you want to continue?")? {
            Some(true) => {}
            Some(false) => return Ok(()),
            None => return Err(Failure::unanswered()),
        }
        output::lines([""])?;
        // Of what was shown, what may still go: an answer takes its time.
        let shown = std::mem::replace(&mut unused, look().await?);
        unused.retain_seen(&shown.going);
    }
    remove(cluster, &unused.going, everywhere, output).await
}

async fn remove(
    cluster: &Cluster,
    volumes: &[Volume],
    everywhere: bool,
    output: Output,
) -> Result<(), Failure> {
    let pruned = prune::remove(cluster, volumes).await;
    for error in &pruned.failures {
        failure::tell(error, false);
    }
    let names = |volumes: &[&Volume]| volumes.iter().map(|volume| shown_name(volume, everywhere)).collect();
    let report = Report {
        volumes_deleted: names(&pruned.removed),
        space_reclaimed: prune::frees(&pruned.removed),
        volumes_going: names(&pruned.going),
        space_still_to_be_reclaimed: prune::frees(&pruned.going),
    };
    match output {
        Output::Json => output::json(&report)?,
        Output::Yaml => output::yaml(&report)?,
        Output::Name => output::lines(report.volumes_deleted)?,
        Output::Table | Output::Wide => tell(report)?,
    }
    if pruned.failures.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

fn tell(report: Report) -> std::io::Result<()> {
    for (head, names) in [
        ("Deleted Volumes:", report.volumes_deleted),
        ("Told to go, and not gone yet:", report.volumes_going),
    ] {
        if !names.is_empty() {
            output::lines([head.to_owned()].into_iter().chain(names).chain([String::new()]))?;
        }
    }
    output::lines([format!("Total reclaimed space: {}", sizes::used(report.space_reclaimed))])?;
    let later = report.space_still_to_be_reclaimed;
    if later > 0 {
        output::lines([format!("Still to be reclaimed: {}", sizes::used(later))])?;
    }
    Ok(())
}

fn show(volumes: &[Volume], everywhere: bool) -> std::io::Result<()> {
    let mut rows = vec![["NAME", "SIZE", "USED", "TIER", "WHEN REMOVED"].map(str::to_owned).to_vec()];
    rows.extend(volumes.iter().map(|volume| {
        let used = volume.status.as_ref().and_then(|status| status.used.clone());
        vec![
            shown_name(volume, everywhere),
            volume.spec.size.clone(),
            used.unwrap_or_else(|| "-".to_owned()),
            volume.spec.tier.clone(),
            match volume.spec.deletion_policy {
                DeletionPolicy::Delete => "the data goes".to_owned(),
                DeletionPolicy::Retain => "the data stays on its node".to_owned(),
            },
        ]
    }));
    output::columns(&rows)
}
