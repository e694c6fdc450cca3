//! `volume prune`: shows what would go and where, asks, and removes it.

use kube::ResourceExt;
use tierce_client::{Cluster, prune};
use tierce_crds::{DeletionPolicy, Volume};

use super::list::{selection, shown_name};
use crate::{
    args::Prune,
    failure::{self, Failure},
    labels::Filter,
    output, sizes, terminal,
};

pub(super) async fn prune(cluster: &Cluster, arguments: &Prune) -> Result<(), Failure> {
    let everywhere = arguments.selection.all_namespaces;
    if !arguments.all && arguments.selection.selector.is_none() && arguments.filters.is_empty() {
        return Err(Failure::usage(
            "every volume of a cluster has a name, and somebody may count on it: choose by label with -l or --filter, or all that no pod uses with --all; --dry-run only shows them",
        ));
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
        return Ok(show(&unused.going, everywhere)?);
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
    remove(cluster, &unused.going, everywhere).await
}

async fn remove(cluster: &Cluster, volumes: &[Volume], everywhere: bool) -> Result<(), Failure> {
    let pruned = prune::remove(cluster, volumes).await;
    for error in &pruned.failures {
        failure::tell(error, false);
    }
    for (head, volumes) in
        [("Deleted Volumes:", &pruned.removed), ("Told to go, and not gone yet:", &pruned.going)]
    {
        if !volumes.is_empty() {
            let names = volumes.iter().map(|volume| shown_name(volume, everywhere));
            output::lines([head.to_owned()].into_iter().chain(names).chain([String::new()]))?;
        }
    }
    output::lines([format!("Total reclaimed space: {}", sizes::used(prune::frees(&pruned.removed)))])?;
    let later = prune::frees(&pruned.going);
    if later > 0 {
        output::lines([format!("Still to be reclaimed: {}", sizes::used(later))])?;
    }
    if pruned.failures.is_empty() { Ok(()) } else { Err(Failure::Told) }
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
