//! `volume label`, `volume resize` and `volume restore`.

use tierce_client::{Cluster, labels, resize, restore, wait::Outcome};

use super::{create, patience::Person};
use crate::{
    args::{Label, OneSnapshot, Output, Resize, Restore},
    failure::Failure,
    labels::{LabelChange, parse_changes},
    output, terminal,
};

pub(super) async fn label(cluster: &Cluster, arguments: &Label, output: Output) -> Result<(), Failure> {
    let changes = parse_changes(&arguments.changes)?.into_iter().map(|change| match change {
        LabelChange::Set(key, value) => (key, Some(value)),
        LabelChange::Remove(key) => (key, None),
    });
    labels::label(cluster, &arguments.name, &changes.collect()).await?;
    Ok(output::name(output, &arguments.name)?)
}

pub(super) async fn resize(cluster: &Cluster, arguments: &Resize, output: Output) -> Result<(), Failure> {
    let name = &arguments.name;
    let size = create::size(&arguments.size)?;
    let person = Person::default();
    let outcome = resize::resize(cluster, name, &size, person.patience(&arguments.waiting)).await?;
    if let Outcome::UnderWay(last) = outcome {
        terminal::note(&format!("Volume '{name}' is to grow, and has not yet: {last}; --wait waits for it"));
    }
    Ok(output::name(output, name)?)
}

pub(super) async fn restore(cluster: &Cluster, arguments: &Restore, output: Output) -> Result<(), Failure> {
    let OneSnapshot { name, snapshot } = &arguments.one;
    let person = Person::default();
    let patience = person.patience(&arguments.waiting);
    let ordered = restore::restore(cluster, name, snapshot, arguments.force, patience).await?;
    match ordered.outcome {
        Outcome::Done(None) => {}
        Outcome::Done(Some(before)) => {
            terminal::note(&format!("What volume '{name}' had before is kept as its snapshot {before}"));
        }
        Outcome::UnderWay(last) => terminal::note(&format!(
            "Ordered as VolumeRestore '{}', which tells how far it is: {last}; --wait waits for it",
            ordered.order
        )),
    }
    Ok(output::name(output, name)?)
}
