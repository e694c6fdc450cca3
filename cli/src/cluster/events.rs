//! `events`: what the cluster told about volumes lately.

use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use tierce_client::{Cluster, events};

use super::list::since;
use crate::{
    args::{self, Output},
    failure::Failure,
    output, terminal,
};

pub(super) async fn show(cluster: &Cluster, arguments: &args::Events, output: Output) -> Result<(), Failure> {
    let everywhere = arguments.all_namespaces;
    let found = match &arguments.name {
        Some(name) => events::of_volume(cluster, name).await?,
        None => events::of_all(cluster, everywhere).await?,
    };
    match output {
        Output::Json => output::json(&found)?,
        Output::Yaml => output::yaml(&found)?,
        Output::Name => output::lines(found.iter().map(|event| format!("event/{}", event.name_any())))?,
        Output::Table | Output::Wide if found.is_empty() => {
            terminal::note(&format!(
                "No events of volumes in {} (a cluster forgets them after an hour)",
                cluster.place(everywhere)
            ));
        }
        Output::Table | Output::Wide => {
            let mut head = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"].map(str::to_owned).to_vec();
            if everywhere {
                head.insert(0, "NAMESPACE".to_owned());
            }
            let mut rows = vec![head];
            rows.extend(found.iter().map(|event| {
                let mut row = row(event);
                if everywhere {
                    row.insert(0, event.namespace().unwrap_or_default());
                }
                row
            }));
            output::columns(&rows)?;
        }
    }
    Ok(())
}

/// Last seen, type, reason, object and message.
pub(super) fn row(event: &Event) -> Vec<String> {
    let object = &event.involved_object;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    vec![
        events::last_seen(event).map_or_else(|| "-".to_owned(), since),
        part(&event.type_),
        part(&event.reason),
        format!("{}/{}", part(&object.kind).to_lowercase(), part(&object.name)),
        part(&event.message).replace('\n', " "),
    ]
}
