//! `volume ls`, and which volumes a command means.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use tierce_client::{
    Cluster, Users, in_words,
    list::{self, without_bookkeeping},
};
use tierce_crds::{Volume, conditions};

use crate::{
    args::{List, Output, Selection},
    failure::Failure,
    labels::Filter,
    output, terminal,
};

pub(super) async fn list(cluster: &Cluster, arguments: &List, output: Output) -> Result<(), Failure> {
    let everywhere = arguments.selection.all_namespaces;
    let found = chosen(cluster, &arguments.selection, &arguments.filters).await?;
    if arguments.quiet {
        return Ok(output::lines(found.iter().map(|volume| shown_name(volume, everywhere)))?);
    }
    if !output.is_for_people() {
        return Ok(show_objects(&found, output)?);
    }
    if found.is_empty() {
        terminal::note(&format!("No volumes in {}", cluster.place(everywhere)));
        return Ok(());
    }
    let users = match output {
        Output::Wide => Some(Users::ask(cluster, everywhere).await?),
        _ => None,
    };
    let mut head = vec!["NAME", "PHASE", "SIZE", "USED", "TIER", "NODE", "AGE"];
    if everywhere {
        head.insert(0, "NAMESPACE");
    }
    if users.is_some() {
        head.extend(["REASON", "PERSISTENT VOLUME", "IN USE BY"]);
    }
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    rows.extend(found.iter().map(|volume| row(volume, everywhere, users.as_ref())));
    Ok(output::columns(&rows)?)
}

fn row(volume: &Volume, everywhere: bool, users: Option<&Users>) -> Vec<String> {
    let status = volume.status.clone().unwrap_or_default();
    let mut row = Vec::new();
    if everywhere {
        row.push(volume.namespace().unwrap_or_default());
    }
    let phase = status.phase.map_or_else(|| "Pending".to_owned(), |phase| format!("{phase:?}"));
    row.extend([volume.name_any(), phase, volume.spec.size.clone()]);
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    row.extend([or_none(status.used), volume.spec.tier.clone(), or_none(status.node), age(volume)]);
    if let Some(users) = users {
        let ready = conditions::find(&status.conditions, conditions::READY);
        row.push(or_none(ready.map(|condition| condition.reason.clone())));
        row.push(or_none(status.volume_name));
        let pods = users.pods(volume);
        row.push(or_none((!pods.is_empty()).then(|| in_words(&pods))));
    }
    row
}

/// What a selection asks a cluster for.
pub(super) fn selection(arguments: &Selection) -> list::Selection {
    list::Selection { selector: arguments.selector.clone(), all_namespaces: arguments.all_namespaces }
}

/// The Volumes that a selector and filters choose, by namespace and name.
async fn chosen(
    cluster: &Cluster,
    arguments: &Selection,
    filters: &[String],
) -> Result<Vec<Volume>, Failure> {
    let filter = Filter::parse(filters)?;
    let mut found = list::chosen(cluster, &selection(arguments)).await?;
    found.retain(|volume| filter.accepts(volume.labels()));
    Ok(found)
}

/// `name`, or `namespace/name` where there are several.
pub(super) fn shown_name(volume: &Volume, everywhere: bool) -> String {
    match volume.namespace() {
        Some(namespace) if everywhere => format!("{namespace}/{}", volume.name_any()),
        _ => volume.name_any(),
    }
}

/// As kubectl prints several objects, for programs.
pub(super) fn show_objects(volumes: &[Volume], output: Output) -> std::io::Result<()> {
    let items: Vec<Volume> = volumes.iter().cloned().map(without_bookkeeping).collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    match output {
        Output::Yaml => output::yaml(&list),
        Output::Name => output::lines(
            volumes
                .iter()
                .map(|volume| format!("volume.{}/{}", tierce_crds::names::GROUP, volume.name_any())),
        ),
        Output::Json | Output::Table | Output::Wide => output::json(&list),
    }
}

fn age(volume: &Volume) -> String {
    volume.creation_timestamp().map_or_else(|| "-".to_owned(), |time| since(time.0))
}

/// How long ago something was, in one unit.
pub(super) fn since(time: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(time).as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
