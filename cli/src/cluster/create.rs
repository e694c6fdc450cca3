//! `volume create` and `volume clone`.

use tierce_client::{
    Cluster,
    create::{self, Start},
    wait::Outcome,
};
use tierce_crds::{AccessMode, Binding, DeletionPolicy};

use super::patience::Person;
use crate::{
    args::{CloneVolume, Create, Output},
    failure::Failure,
    host::filesystem,
    labels, output, sizes, terminal,
};

pub(super) async fn create(cluster: &Cluster, arguments: &Create, output: Output) -> Result<(), Failure> {
    let new = wanted(arguments)?;
    let person = Person::default();
    let outcome = create::create(cluster, &new, person.patience(&arguments.waiting)).await?;
    tell(&new.name, outcome, output)
}

pub(super) async fn clone_volume(
    cluster: &Cluster,
    arguments: &CloneVolume,
    output: Output,
) -> Result<(), Failure> {
    let CloneVolume { from, to, waiting, .. } = arguments;
    let person = Person::default();
    tell(to, create::clone_volume(cluster, from, to, person.patience(waiting)).await?, output)
}

fn tell(name: &str, outcome: Outcome, output: Output) -> Result<(), Failure> {
    match outcome {
        Outcome::Done(None) => {}
        Outcome::Done(Some(word)) => terminal::note(&format!("Volume '{name}' is {word}")),
        Outcome::UnderWay(last) => terminal::note(&format!(
            "Volume '{name}' is asked for, and not ready yet: {last}; --wait waits for it, tierce volume inspect {name} says how far it is"
        )),
    }
    Ok(output::name(output, name)?)
}

fn wanted(arguments: &Create) -> Result<create::NewVolume, Failure> {
    let (new, options) = (&arguments.new, &arguments.on_cluster);
    Ok(create::NewVolume {
        name: new.name.clone(),
        size: new.size.as_deref().map(size).transpose()?,
        tier: options.tier.clone(),
        access_mode: if options.rwop { AccessMode::ReadWriteOncePod } else { AccessMode::ReadWriteOnce },
        block: options.block,
        filesystem: new.filesystem.as_deref().map(filesystem).transpose().map_err(Failure::usage)?,
        encrypt: new.encrypt,
        labels: labels::parse(&new.labels)?,
        source: match (&options.from_volume, &options.from_snapshot) {
            (Some(volume), _) => Some(Start::Volume(volume.clone())),
            (None, Some(snapshot)) => Some(Start::Snapshot(snapshot.clone())),
            (None, None) => None,
        },
        binding: if options.immediate { Binding::Immediate } else { Binding::OnFirstUse },
        deletion_policy: if options.retain { DeletionPolicy::Retain } else { DeletionPolicy::Delete },
    })
}

/// A size as Kubernetes writes it.
pub(super) fn size(text: &str) -> Result<String, Failure> {
    if sizes::parse(text).is_some() {
        return Ok(text.to_owned());
    }
    let shown: String = text.escape_debug().take(40).collect();
    Err(Failure::usage(format!("Size '{shown}' is not valid: write {}", sizes::FORM)))
}
