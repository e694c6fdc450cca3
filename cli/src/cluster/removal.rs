//! `volume rm`.

use kube::ResourceExt;
use tierce_client::{
    Cluster, in_words,
    removal::{self, gone},
    wait::Outcome,
};
use tierce_crds::{DeletionPolicy, Volume};

use super::patience::Person;
use crate::{
    args::{Output, Remove},
    failure::{self, Failure},
    output, terminal,
};

pub(super) async fn remove(cluster: &Cluster, arguments: &Remove, output: Output) -> Result<(), Failure> {
    let (mut going, mut failures) = (Vec::new(), Vec::new());
    for name in &arguments.names {
        match removal::remove(cluster, name, arguments.force).await {
            Ok(told) => going.push(told),
            Err(error) => failures.push(error),
        }
    }
    let person = Person::default();
    let patience = person.patience(&arguments.waiting);
    let mut told = output::Names::new(output);
    for (volume, pods) in &going {
        tell(volume, pods);
        // A pod does not end within a moment.
        let looks = pods.is_empty() || arguments.waiting.wait;
        match if looks { gone(cluster, volume, patience).await } else { Ok(Outcome::Done(None)) } {
            Ok(outcome) => {
                let name = volume.name_any();
                if let Outcome::UnderWay(last) = outcome {
                    terminal::note(&format!(
                        "Volume '{name}' is told to go, and is not gone yet: {last}; --wait waits for it"
                    ));
                }
                told.add(&name)?;
            }
            Err(error) => failures.push(error),
        }
    }
    told.end(!failures.is_empty())?;
    // One name keeps its own error and status.
    if arguments.names.len() == 1 {
        return failures.pop().map_or(Ok(()), |error| Err(error.into()));
    }
    for error in &failures {
        failure::tell(error, false);
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

/// What a person should know of a volume that was told to go.
fn tell(volume: &Volume, pods: &[String]) {
    let name = volume.name_any();
    if !pods.is_empty() {
        let use_it = if pods.len() == 1 { "uses it" } else { "use it" };
        terminal::note(&format!(
            "Volume '{name}' is told to go, and waits until it is free: {} {use_it}",
            in_words(pods)
        ));
    }
    let node = volume.status.as_ref().and_then(|status| status.node.clone());
    if let (DeletionPolicy::Retain, Some(node)) = (volume.spec.deletion_policy, node) {
        terminal::note(&format!(
            "The data of volume '{name}' stays on node {node} (deletionPolicy Retain): tierce events {name} says where"
        ));
    }
}
