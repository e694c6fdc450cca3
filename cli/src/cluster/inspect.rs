//! `volume inspect`: all that belongs to a Volume.

use kube::ResourceExt;
use tierce_client::{Cluster, inspect::gather};

use super::page;
use crate::{
    args::{Names, Output},
    failure::{self, Failure},
    output,
};

pub(super) async fn inspect(cluster: &Cluster, arguments: &Names, output: Output) -> Result<(), Failure> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in &arguments.names {
        match gather(cluster, name).await {
            Ok(whole) => found.push(whole),
            Err(error) => failures.push(error),
        }
    }
    match output {
        Output::Json | Output::Yaml if found.is_empty() => {}
        Output::Json => output::json(&found)?,
        Output::Yaml => output::yaml(&found)?,
        Output::Name => output::lines(
            found
                .iter()
                .map(|whole| format!("volume.{}/{}", tierce_crds::names::GROUP, whole.volume.name_any())),
        )?,
        Output::Table | Output::Wide => {
            for (index, whole) in found.iter().enumerate() {
                if index > 0 {
                    output::lines([""])?;
                }
                page::print(whole)?;
            }
        }
    }
    // One name keeps its own error and status.
    if arguments.names.len() == 1 {
        return failures.pop().map_or(Ok(()), |error| Err(error.into()));
    }
    for error in &failures {
        failure::tell(error, false);
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::Told) }
}
