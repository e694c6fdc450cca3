//! Opening an LVM pool: what is there is used as it is, and whatever is wrong with it is named with what to
//! do. What is not there is made only where [`super::new_group`] may.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    LvmPool,
    call::{self, Lvm},
    new_group,
    notes::{AllNotes, view_of},
    physical::{check_disks, numbered, real, sector_bytes},
    report::Report,
    thin_pool, watch,
};
use crate::{
    CommandError, LvmKind, PoolError, Runner,
    pool::{Backend, PoolConfig},
    pool_error::{PoolErrorKind as Kind, Trouble},
};

/// Number of bytes of a pool's id that come from its volume group.
const GROUP_BYTES: usize = 6;

impl LvmPool {
    /// Opens the pool. `known`: its own id, where it was open before: another one is then refused, and
    /// nothing is made. `notes`: of all pools that this host has open.
    pub(crate) fn open(
        config: &PoolConfig,
        known: Option<Uuid>,
        runner: Arc<dyn Runner>,
        notes: &AllNotes,
    ) -> Result<Arc<Self>, PoolError> {
        let opened = open(config, known, runner, notes).map_err(|trouble| trouble.of(config))?;
        let pool = Arc::new(opened);
        let failed = |reason: String| pool.error(Kind::Failed.because(reason));
        pool.finish_swaps().map_err(|error| failed(format!("can't end an interrupted restore: {error}")))?;
        if pool.extends {
            let watched = Arc::downgrade(&pool);
            let look = move || watched.upgrade().map(|pool| pool.extend_if_due()).is_some();
            match watch::start(look) {
                Ok(watch) => drop(pool.watch.set(watch)),
                Err(error) => return Err(failed(format!("can't watch the thin pool: {error}"))),
            }
        }
        Ok(pool)
    }
}

fn open(
    config: &PoolConfig,
    known: Option<Uuid>,
    runner: Arc<dyn Runner>,
    notes: &AllNotes,
) -> Result<LvmPool, Trouble> {
    let Backend::Lvm { volume_group: group, kind, devices } = &config.backend else {
        unreachable!("the host opens each kind of pool with its own code");
    };
    check_name("volume group", group)?;
    if let LvmKind::Thin(pool) = kind {
        check_name("thin pool", &pool.name)?;
    }
    let named = real(devices)?;
    let lvm = Lvm::new(runner, &named);
    let mut report = match lvm.report(group) {
        Ok(report) => report,
        Err(error) if call::no_such_group(&error) => {
            if let Some(known) = known {
                return Err(Kind::NoSuchVolumeGroup.because(gone(&lvm, group, known)));
            }
            if named.is_empty() {
                return Err(Kind::NoSuchVolumeGroup.because(format!(
                    "there is no volume group {group} on a disk or partition: make it (vgcreate {group} DEVICE…), or name the devices to \
                     make it from. One on multipath or on other mapped devices is found only where its devices are named"
                )));
            }
            new_group::make(&lvm, group, &named)?;
            look(&lvm, group)?
        }
        Err(error) => return Err(not_looked_at(group, &error)),
    };
    check_devices(&lvm, group, &report)?;
    let devices = numbered(&report)?;
    if named.is_empty() {
        check_disks(group, &devices)?;
    }
    if let LvmKind::Thin(pool) = kind
        && !report.volumes.iter().any(|volume| volume.name == pool.name)
        && known.is_none()
    {
        new_group::make_thin_pool(&lvm, &report, pool, !named.is_empty())?;
        report = look(&lvm, group)?;
    }
    let thin_pool = match kind {
        LvmKind::Thin(pool) => Some(thin_pool::ready(&lvm, &report, &pool.name)?),
        LvmKind::Thick => None,
    };
    let id = pool_id(&report.group().uuid, thin_pool.as_deref());
    if let Some(known) = known.filter(|known| *known != id) {
        return Err(Kind::OtherDisk.because(format!(
            "pool {known} was here, now it is {id}: is a disk missing? (Give another group or thin pool another pool name)"
        )));
    }
    let paths: Vec<PathBuf> = devices.iter().map(|(path, _)| path.clone()).collect();
    let sector_bytes = devices
        .iter()
        .map(|(path, number)| {
            sector_bytes(*number).map_err(|error| {
                Kind::Failed.because(format!("can't ask {} for its sector size: {error}", path.display()))
            })
        })
        .collect::<Result<Vec<_>, Trouble>>()?
        .into_iter()
        .max()
        .unwrap_or(512);
    let (thin_name, extends) = match kind {
        LvmKind::Thin(pool) => (Some(pool.name.clone()), pool.extend),
        LvmKind::Thick => (None, false),
    };
    let notes = notes.of(id);
    // Calls through the pool as it was opened before may have changed the group since the report.
    let others = Arc::strong_count(&notes) > 1;
    notes.begin(|| {
        let again = if others { Some(look(&lvm, group)?) } else { None };
        Ok(view_of(again.as_ref().unwrap_or(&report), id, thin_name.as_deref()))
    })?;
    Ok(LvmPool {
        config: config.clone(),
        id,
        group: group.clone(),
        notes,
        thin_pool: thin_name,
        extends,
        // Of those that were named one may become the group's later.
        lvm: if named.is_empty() { lvm.over(&paths) } else { lvm },
        devices,
        sector_bytes,
        watch: OnceLock::new(),
    })
}

/// Whether the group that a pool's settings name is there, and its thin pool.
pub(crate) fn is_pool(config: &PoolConfig, runner: Arc<dyn Runner>) -> Result<bool, PoolError> {
    let Backend::Lvm { volume_group: group, kind, devices } = &config.backend else { return Ok(false) };
    let found = real(devices).and_then(|named| match Lvm::new(runner, &named).report(group) {
        Ok(report) => Ok(Some(report)),
        Err(error) if call::no_such_group(&error) => Ok(None),
        Err(error) => Err(not_looked_at(group, &error)),
    });
    let found = found.map_err(|trouble| trouble.of(config))?;
    Ok(found.is_some_and(|report| match kind {
        LvmKind::Thick => true,
        LvmKind::Thin(pool) => report.volumes.iter().any(|volume| volume.name == pool.name),
    }))
}

/// That the group of a pool that was open before is not where it is looked for, and where it is, if it is anywhere.
fn gone(lvm: &Lvm, group: &str, known: Uuid) -> String {
    let elsewhere = lvm.devices_of(group, |found| is_of_group(known, found)).unwrap_or_else(|error| {
        tracing::warn!(group, error = call::words(&error), "can't look for a group's devices");
        Vec::new()
    });
    if elsewhere.is_empty() {
        return format!(
            "volume group {group} of pool {known} is gone: is a disk missing? (Give a new group another pool name; one on multipath or on other \
             mapped devices is found only where its devices are named)"
        );
    }
    let devices = elsewhere.join(", ");
    format!(
        "volume group {group} of pool {known} is on {devices}, and nothing on such devices is used unless they are named: put them into \
         spec.lvm.devices of the StoragePool"
    )
}

fn look(lvm: &Lvm, group: &str) -> Result<Report, Trouble> {
    lvm.report(group).map_err(|error| not_looked_at(group, &error))
}

fn not_looked_at(group: &str, error: &CommandError) -> Trouble {
    Kind::Failed.because(format!("can't look at volume group {group}: {}", call::words(error)))
}

/// LVM's rule for names.
fn check_name(what: &str, name: &str) -> Result<(), Trouble> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+_.-".contains(c);
    if name.is_empty() || name.len() > 60 || name.starts_with(['-', '.']) || !name.chars().all(allowed) {
        return Err(Kind::InvalidSettings.because(format!(
            "{name:?} is no name of a {what}: 1 to 60 letters, digits and '+', '_', '.', '-', the first no '-' or '.'"
        )));
    }
    Ok(())
}

fn check_devices(lvm: &Lvm, group: &str, report: &Report) -> Result<(), Trouble> {
    let missing: Vec<_> =
        report.devices.iter().filter(|device| device.missing).map(|device| device.uuid.as_str()).collect();
    if report.group().missing_devices > 0 || !missing.is_empty() {
        return Err(Kind::MissingDevices.because(format!(
            "volume group {group} misses {} of its {} devices (LVM ids {}): bring the disks back; vgreduce --removemissing {group} \
             would give up what lies on them",
            report.group().missing_devices,
            report.devices.len(),
            missing.join(", ")
        )));
    }
    // LVM takes one of two devices with the same id by guess, and says so in no column of the group's own
    // report.
    let copies = lvm.copied_devices(group).map_err(|error| not_looked_at(group, &error))?;
    if !copies.is_empty() {
        return Err(Kind::DuplicateDevices.because(format!(
            "a device of volume group {group} is there twice: {}. Take the copy away, or make a group of its own of it \
             (vgimportclone DEVICE)",
            copies.join(", ")
        )));
    }
    Ok(())
}

/// The pool's own id, from LVM's ids of its group and thin pool: a group made again under the same name is
/// another pool.
fn pool_id(group: &str, thin_pool: Option<&str>) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&Sha256::digest(group)[..8]);
    bytes[8..].copy_from_slice(&Sha256::digest(thin_pool.unwrap_or("thick"))[..8]);
    uuid::Builder::from_bytes(bytes)
        .with_variant(uuid::Variant::RFC4122)
        .with_version(uuid::Version::Custom)
        .into_uuid()
}

/// Whether a pool lies in the group of that LVM id (without hyphens).
pub(crate) fn is_of_group(pool: Uuid, group: &str) -> bool {
    pool.as_bytes()[..GROUP_BYTES] == Sha256::digest(group)[..GROUP_BYTES]
}

/// Tells disks apart: a thin pool is one, what is left of its group another.
pub(super) fn disk_id(pool: Uuid) -> u64 {
    let (one, other) = pool.as_u64_pair();
    one ^ other
}

#[cfg(test)]
mod tests {
    use super::{super::scripted, *};
    use crate::pool::examples;

    #[test]
    fn another_group_or_thin_pool_is_another_pool() {
        let (one, two) = ("a".repeat(32), "b".repeat(32));
        let ids =
            [pool_id(&one, None), pool_id(&one, Some(&two)), pool_id(&two, None), pool_id(&two, Some(&one))];
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(ids.iter().filter(|other| *other == id).count(), 1);
            assert_eq!((is_of_group(*id, &one), is_of_group(*id, &two)), (at < 2, at >= 2));
        }
        assert_ne!(disk_id(ids[0]), disk_id(ids[1]));
        assert_eq!(pool_id(&one, None), ids[0]);
    }

    /// LVM where the group is on a multipath device.
    struct Multipath;

    impl Runner for Multipath {
        fn run(&self, program: &crate::Program) -> Result<crate::CommandOutput, CommandError> {
            let rejects = program.line().contains("r|^/dev/dm-|");
            if program.arguments[0] == "pvs" && !rejects {
                let id = ["a".repeat(6).as_str(), &"a".repeat(26)].join("-");
                let other = "b".repeat(32);
                let stdout = format!(
                    r#"{{"report":[{{"pv":[{{"pv_name":"/dev/mapper/mpatha","vg_name":"vg","vg_uuid":"{id}"}},{{"pv_name":"/dev/sdb","vg_name":"vg","vg_uuid":"{other}"}}]}}]}}"#
                );
                return Ok(crate::CommandOutput { code: 0, stdout });
            }
            Err(scripted::refusal("Volume group \"vg\" not found"))
        }
    }

    #[test]
    fn a_known_pool_on_a_device_that_has_to_be_named_says_which_and_where() {
        let config = examples::config("p", scripted::backend());
        let opened = |known: Uuid| {
            let opened = LvmPool::open(&config, Some(known), Arc::new(Multipath), &AllNotes::default());
            opened.map(drop).unwrap_err()
        };
        let here = opened(pool_id(&"a".repeat(32), None));
        assert_eq!(here.kind, Kind::NoSuchVolumeGroup);
        for words in ["spec.lvm.devices", "is on /dev/mapper/mpatha,"] {
            assert!(here.reason.contains(words), "{here}");
        }
        assert!(!here.reason.contains("sdb"), "{here}");
        let missing = opened(pool_id(&"c".repeat(32), None));
        assert!(missing.reason.contains("is a disk missing?"), "{missing}");
    }

    #[test]
    fn names_follow_lvms_rule() {
        for good in ["vg0", "vg-a", "tierce_ssd", "a.b+c"] {
            assert!(check_name("volume group", good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".", "..", "a/b", "a b", "é", &"a".repeat(61), "a\n"] {
            let trouble = check_name("volume group", bad).unwrap_err();
            assert_eq!(trouble.kind, Kind::InvalidSettings, "{trouble:?}");
        }
    }
}
