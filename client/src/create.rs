//! Making volumes: new ones, and copies.

use std::collections::{BTreeMap, BTreeSet};

use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use tierce_crds::{
    AccessMode, Binding, DeletionPolicy, Encryption, Filesystem, Phase, Source, StoragePool, Volume,
    VolumeMode, VolumeSpec, conditions::volume as reason, format_bytes, parse_bytes,
};

use crate::{
    Cluster, Differs, Error, MANAGER, known, names,
    snapshots::VolumeSnapshot,
    wait::{self, Outcome, Patience, State},
};

/// A volume that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name.
    pub name: String,
    /// Its size, as a quantity; `None`: that of what it starts with.
    pub size: Option<String>,
    /// Its tier; `None`: that of what it starts with, or the only one.
    pub tier: Option<String>,
    /// Which pods may use it.
    pub access_mode: AccessMode,
    /// A raw device instead of a filesystem.
    pub block: bool,
    /// Its filesystem; `None`: that of the tier.
    pub filesystem: Option<Filesystem>,
    /// Whether what lies on the disk is encrypted; `false`: as the tier says.
    pub encrypt: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it starts with; `None`: with nothing.
    pub source: Option<Start>,
    /// When it is made.
    pub binding: Binding,
    /// What becomes of the data when it is removed.
    pub deletion_policy: DeletionPolicy,
}

/// What a volume starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// What a snapshot of that name holds.
    Snapshot(String),
    /// What the volume of that name holds.
    Volume(String),
}

/// Makes a volume, and looks what becomes of it. One that is there already and is as asked is fine.
pub async fn create(cluster: &Cluster, new: &NewVolume, patience: Patience<'_>) -> Result<Outcome, Error> {
    make(cluster, wanted(cluster, new).await?, patience).await
}

/// Makes a volume with the content of another, and as that one is.
pub async fn clone_volume(
    cluster: &Cluster,
    from: &str,
    to: &str,
    patience: Patience<'_>,
) -> Result<Outcome, Error> {
    names::checked("Volume", to, 63)?;
    let source = cluster.volume(from).await?;
    let mut spec = source.spec.clone();
    spec.source = Some(Source { volume: Some(from.to_owned()), snapshot: None });
    make(cluster, Volume::new(to, spec), patience).await
}

async fn make(cluster: &Cluster, wanted: Volume, patience: Patience<'_>) -> Result<Outcome, Error> {
    let name = wanted.name_any();
    let by_us = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match cluster.here::<Volume>().create(&by_us, &wanted).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            same(&cluster.volume(&name).await?, &wanted)?;
        }
        Err(error) => return Err(cluster.failed(&format!("create volume '{name}'"), error)),
    }
    let look = if patience.is_glance() { usable_without_waiting } else { usable };
    let what = format!("volume '{name}' to be ready");
    let outcome = wait::follow(cluster, cluster.here::<Volume>(), &name, &what, patience, look).await;
    outcome.map_err(|error| left_behind(error, &name))
}

/// A volume that can't be made stays as an object, which would be in the way of the next try.
fn left_behind(error: Error, name: &str) -> Error {
    match error {
        Error::Hopeless { what, why } => {
            let why =
                format!("{why}; the Volume stays as it is until then: tierce volume rm {name} removes it");
            Error::Hopeless { what, why }
        }
        other => other,
    }
}

/// The same for who does not wait: what failed is said, though it goes on by itself once somebody mends that.
fn usable_without_waiting(volume: Option<&Volume>) -> State {
    let failed = volume.filter(|volume| {
        volume.status.as_ref().and_then(|status| status.phase) == Some(Phase::Failed)
            // A snapshot that is being taken is a moment's matter.
            && !matches!(wait::ready(volume), None | Some((_, reason::NO_SOURCE, _)))
    });
    match (usable(volume), failed) {
        (State::Waiting(word), Some(_)) => State::Hopeless(word),
        (state, _) => state,
    }
}

/// Whether a pod can be started with the Volume now.
fn usable(volume: Option<&Volume>) -> State {
    let Some(volume) = volume else { return State::Hopeless("somebody removed it".to_owned()) };
    match wait::ready(volume) {
        None => State::Waiting("the controller has not looked at it yet".to_owned()),
        Some((_, reason::WAITING_FOR_FIRST_USE, message)) => State::Done(Some(message.to_owned())),
        Some((true, ..)) => State::Done(None),
        // The others end by themselves, or when somebody else does something about them.
        Some((_, reason::NAME_CONFLICT | reason::NO_SUCH_TIER | reason::CLAIM_LOST, message)) => {
            State::Hopeless(message.to_owned())
        }
        Some((_, _, message)) => State::Waiting(message.to_owned()),
    }
}

async fn wanted(cluster: &Cluster, new: &NewVolume) -> Result<Volume, Error> {
    names::checked("Volume", &new.name, 63)?;
    let start = start(cluster, new.source.as_ref()).await?;
    let size = new.size.clone().or(start.size).ok_or_else(|| {
        Error::InvalidArgument(
            "a volume on a cluster has a size: add --size 10Gi, or what it needs".to_owned(),
        )
    })?;
    let tier = match (&new.tier, start.tier) {
        (Some(asked), _) => known_tier(cluster, asked).await?,
        (None, Some(tier)) => tier,
        (None, None) => only_tier(cluster).await?,
    };
    let spec = VolumeSpec {
        size,
        tier,
        access_mode: new.access_mode,
        volume_mode: if new.block { VolumeMode::Block } else { start.mode },
        filesystem: new.filesystem,
        owner: None,
        encryption: new.encrypt.then_some(Encryption { enabled: true }),
        source: start.source,
        binding: new.binding,
        deletion_policy: new.deletion_policy,
        mount_options: Vec::new(),
    };
    let mut volume = Volume::new(&new.name, spec);
    volume.metadata.labels = Some(new.labels.clone()).filter(|labels| !labels.is_empty());
    Ok(volume)
}

/// What a new Volume takes over from what it starts with.
#[derive(Default)]
struct TakenOver {
    source: Option<Source>,
    size: Option<String>,
    tier: Option<String>,
    mode: VolumeMode,
}

async fn start(cluster: &Cluster, start: Option<&Start>) -> Result<TakenOver, Error> {
    let name = match start {
        None => return Ok(TakenOver::default()),
        Some(Start::Volume(name)) => {
            let spec = cluster.volume(name).await?.spec;
            return Ok(TakenOver {
                source: Some(Source { volume: Some(name.clone()), snapshot: None }),
                size: Some(spec.size),
                tier: Some(spec.tier),
                mode: spec.volume_mode,
            });
        }
        Some(Start::Snapshot(name)) => name,
    };
    names::checked("Snapshot", name, 253)?;
    let Some(snapshot) = cluster.find(&cluster.here::<VolumeSnapshot>(), name).await? else {
        let all = known(cluster.names::<VolumeSnapshot>().await?);
        let place = cluster.place(false);
        return Err(Error::Refused(format!("there is no snapshot '{name}' in {place}: there are {all}")));
    };
    // Its volume may be gone, which says nothing against it.
    let volume = match snapshot.spec.source.persistent_volume_claim_name.as_deref() {
        Some(claim) => cluster.find(&cluster.here::<Volume>(), claim).await?,
        None => None,
    };
    Ok(TakenOver {
        source: Some(Source { snapshot: Some(name.clone()), volume: None }),
        size: snapshot.status.and_then(|status| status.restore_size),
        mode: volume.as_ref().map(|volume| volume.spec.volume_mode).unwrap_or_default(),
        tier: volume.map(|volume| volume.spec.tier),
    })
}

/// The names of all tiers, sorted.
pub async fn tiers(cluster: &Cluster) -> Result<Vec<String>, Error> {
    let pools = Api::<StoragePool>::all(cluster.client.clone()).list(&ListParams::default()).await;
    let pools = pools.map_err(|error| cluster.failed("find out which tiers there are", error))?;
    let tiers: BTreeSet<String> = pools.items.into_iter().map(|pool| pool.spec.tier).collect();
    Ok(tiers.into_iter().collect())
}

/// The tier asked for, before anything is made of one that does not exist. Who may not see the pools learns it from the Volume.
async fn known_tier(cluster: &Cluster, asked: &str) -> Result<String, Error> {
    match tiers(cluster).await {
        Ok(all) if all.is_empty() => Err(no_tier()),
        Ok(all) if !all.iter().any(|tier| tier == asked) => {
            Err(Error::Refused(format!("no tier is named '{asked}': the tiers are {}", all.join(", "))))
        }
        Ok(_) | Err(Error::RefusedByServer { .. }) => Ok(asked.to_owned()),
        Err(error) => Err(error),
    }
}

fn no_tier() -> Error {
    Error::Refused("this cluster has no tier yet: its administrator makes StoragePools".to_owned())
}

/// The tier, where there is no choice.
async fn only_tier(cluster: &Cluster) -> Result<String, Error> {
    match tiers(cluster).await?.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(no_tier()),
        several => Err(Error::InvalidArgument(format!(
            "say which tier of disk with --tier: there are {}",
            several.join(", ")
        ))),
    }
}

/// Whether an existing Volume is what was asked for.
fn same(existing: &Volume, wanted: &Volume) -> Result<(), Error> {
    let (has, asks) = (&existing.spec, &wanted.spec);
    let bytes = |size: &str| parse_bytes(size).map_or_else(|_| size.to_owned(), format_bytes);
    let start = |source: &Option<Source>| match source {
        Some(Source { snapshot: Some(name), .. }) => format!("snapshot {name}"),
        Some(Source { volume: Some(name), .. }) => format!("volume {name}"),
        _ => "nothing".to_owned(),
    };
    let encrypted = |spec: &VolumeSpec| spec.encryption.as_ref().is_some_and(|encryption| encryption.enabled);
    let kind = |filesystem: Option<Filesystem>| {
        filesystem.map_or_else(|| "that of the tier".to_owned(), |kind| kind.to_string())
    };
    let rows = [
        ("size", bytes(&has.size), bytes(&asks.size)),
        ("tier", has.tier.clone(), asks.tier.clone()),
        ("access mode", has.access_mode.as_str().to_owned(), asks.access_mode.as_str().to_owned()),
        ("volume mode", has.volume_mode.as_str().to_owned(), asks.volume_mode.as_str().to_owned()),
        ("filesystem", kind(has.filesystem), kind(asks.filesystem)),
        ("encryption", encrypted(has).to_string(), encrypted(asks).to_string()),
        ("source", start(&has.source), start(&asks.source)),
        ("binding", format!("{:?}", has.binding), format!("{:?}", asks.binding)),
        ("deletion policy", format!("{:?}", has.deletion_policy), format!("{:?}", asks.deletion_policy)),
    ];
    let differs = |parameter, existing, requested| {
        Err(Differs { what: "Volume", name: wanted.name_any(), parameter, existing, requested }.into())
    };
    if let Some((parameter, existing, requested)) = rows.into_iter().find(|(_, has, asks)| has != asks) {
        return differs(parameter, existing, requested);
    }
    let odd = wanted.labels().iter().find(|(key, value)| existing.labels().get(*key) != Some(value));
    match odd {
        Some((key, value)) => {
            let existing = existing.labels().get(key).map_or("none", String::as_str);
            differs("label", format!("{key}={existing}"), format!("{key}={value}"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(spec: &Value) -> Volume {
        let mut object = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume",
            "metadata": {"name": "data"}, "spec": {"size": "1Gi", "tier": "hdd"}});
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_volume_that_is_as_asked_is_no_conflict_and_another_says_what_differs() {
        let asked = volume(&json!({}));
        for (existing, difference) in [
            (json!({}), None),
            (json!({"size": "1024Mi"}), None),
            (json!({"size": "2Gi"}), Some("other size: 2Gi, asked for 1Gi")),
            (json!({"tier": "ssd"}), Some("other tier: ssd, asked for hdd")),
            (json!({"volumeMode": "Block"}), Some("other volume mode: Block, asked for Filesystem")),
            (json!({"source": {"volume": "b"}}), Some("other source: volume b, asked for nothing")),
            (json!({"encryption": {"enabled": true}}), Some("other encryption: true, asked for false")),
            (json!({"deletionPolicy": "Retain"}), Some("other deletion policy: Retain, asked for Delete")),
        ] {
            let said = same(&volume(&existing), &asked).err().map(|error| error.to_string());
            assert_eq!(said.is_some(), difference.is_some(), "{existing}: {said:?}");
            assert!(said.unwrap_or_default().contains(difference.unwrap_or_default()), "{existing}");
        }
    }

    #[test]
    fn only_what_needs_a_person_ends_the_wait() {
        let said = |reason: &str, status: &str| {
            let mut volume = volume(&json!({}));
            volume.metadata.generation = Some(2);
            volume.status = serde_json::from_value(json!({"observedGeneration": 2, "conditions": [{
                "type": "Ready", "status": status, "reason": reason, "message": "words",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
            .unwrap();
            volume
        };
        let words = || "words".to_owned();
        for (reason, status, state) in [
            ("Provisioned", "True", State::Done(None)),
            ("WaitingForFirstUse", "False", State::Done(Some(words()))),
            ("NoSuchTier", "False", State::Hopeless(words())),
            ("OutOfSpace", "False", State::Waiting(words())),
            ("NoSource", "False", State::Waiting(words())),
        ] {
            assert_eq!(usable(Some(&said(reason, status))), state, "{reason}");
        }
        let mut old = said("Provisioned", "True");
        old.metadata.generation = Some(3);
        assert!(matches!(usable(Some(&old)), State::Waiting(_)), "it speaks of an older spec");
        assert!(matches!(usable(None), State::Hopeless(_)));
    }
}
