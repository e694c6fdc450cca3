//! A thin pool as the kernel has it: making it ready, asking how full it is, and naming what is wrong with it
//! and what mends that.

use std::io;

use super::{
    call::{self, Lvm},
    fill::{self, Fill, Growth, Health},
    names,
    report::Report,
};
use crate::{
    CommandError,
    kernel::device_mapper,
    pool_error::{PoolErrorKind as Kind, Trouble},
};

/// Makes sure that the thin pool can be used. Returns its LVM id.
pub(super) fn ready(lvm: &Lvm, report: &Report, pool: &str) -> Result<String, Trouble> {
    let group = &report.group().name;
    let full = format!("{group}/{pool}");
    let Some(volume) = report.volumes.iter().find(|volume| volume.name == pool) else {
        return Err(Kind::NoSuchThinPool.because(format!(
            "there is no thin pool {full}: make it (lvcreate --type thin-pool -n {pool} {group} …)"
        )));
    };
    if !volume.is_thin_pool() {
        return Err(Kind::NotAThinPool.because(format!(
            "{full} is no thin pool but a {} volume: name another one, or leave the thin pool out for thick volumes",
            volume.layout.join(",")
        )));
    }
    if !volume.zeroes() {
        return Err(Kind::ThinPoolNotZeroing.because(format!(
            "thin pool {full} would show a new volume what others wrote before: turn zeroing on (lvchange -Z y {full})"
        )));
    }
    let change = |arguments: &[&str], what: &str| -> Result<(), Trouble> {
        let failed =
            |error: CommandError| Kind::Failed.because(format!("can't {what}: {}", call::words(&error)));
        lvm.change("lvchange", arguments).map(drop).map_err(failed)
    };
    if device_name(group, pool)?.is_none() {
        lvm.change("lvchange", &["-qq", "-ay", "-K", &full])
            .map_err(|error| not_activated(group, pool, &call::words(&error)))?;
    }
    let now = level(group, pool)?;
    healthy(group, pool, &now)?;
    if !now.status.errors_when_full {
        // A full pool that waits for space instead takes everybody with it who writes to any of its volumes.
        change(&["-qq", "--errorwhenfull", "y", &full], &format!("let a full {full} fail writes"))?;
    }
    let table = device_name(group, pool)?.and_then(|name| device_mapper::table(&name).ok().flatten());
    if table.and_then(|table| fill::low_water(&table.text)) == Some(0) {
        // It was activated with a configuration that gives the kernel no mark from which on it tells.
        change(&["-qq", "--refresh", &full], &format!("let the kernel tell how full {full} is"))?;
    }
    Ok(volume.uuid.clone())
}

fn not_activated(group: &str, pool: &str, words: &str) -> Trouble {
    let full = format!("{group}/{pool}");
    if let Some((seen, expected)) = transactions(words) {
        // A repair of the pool's metadata does not touch the number.
        return Kind::TransactionMismatch.because(format!(
            "can't activate thin pool {full}: it has seen transaction {seen}, and the group's metadata expects {expected}. Where volumes are \
             missing from lvs, put newer metadata of the group back (vgcfgrestore). Else, with its users stopped: vgcfgbackup -f FILE \
             {group}; in FILE let the transaction_id of {pool} be {seen}; vgcfgrestore --force -f FILE {group}"
        ));
    }
    Kind::ThinPoolFailed.because(format!(
        "can't activate thin pool {full}: {words}. If its metadata is damaged, with its users stopped: lvconvert --repair {full}"
    ))
}

/// The transaction that the kernel has seen of a thin pool, and the one that LVM expects, where LVM refuses
/// the pool for that.
fn transactions(words: &str) -> Option<(u64, u64)> {
    let number = |before: &str| {
        let digits = words.split_once(before)?.1;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().ok()
    };
    number("transaction_id is ").zip(number("while expected "))
}

/// The name of the thin pool's device; `None`: it is not active. A pool that was never used has no layer of
/// its own.
fn device_name(group: &str, pool: &str) -> Result<Option<String>, Trouble> {
    let plain = names::device(group, pool);
    for name in [format!("{plain}-tpool"), plain] {
        let target = device_mapper::table(&name)
            .map_err(|error| Kind::Failed.because(format!("can't ask device-mapper for {name}: {error}")))?;
        if target.is_some_and(|target| target.kind == "thin-pool") {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The thin pool's fill level as the kernel has it.
pub(super) fn level(group: &str, pool: &str) -> Result<Fill, Trouble> {
    let asked = |error: io::Error| {
        Kind::Failed.because(format!("can't ask device-mapper for thin pool {group}/{pool}: {error}"))
    };
    let name = device_name(group, pool)?.ok_or_else(|| {
        Kind::ThinPoolFailed
            .because(format!("thin pool {group}/{pool} is not active: lvchange -ay {group}/{pool} says why"))
    })?;
    let status = device_mapper::status(&name).map_err(asked)?;
    let table = device_mapper::table(&name).map_err(asked)?;
    let read = status.zip(table).and_then(|(status, table)| {
        Some(Fill { status: fill::pool_status(&status.text)?, chunk: fill::chunk_bytes(&table.text)? })
    });
    read.ok_or_else(|| {
        Kind::Failed.because(format!("the kernel's answer about thin pool {group}/{pool} makes no sense"))
    })
}

/// The last transaction that the kernel has seen of a thin pool; `None`: it does not say.
pub(super) fn transaction(group: &str, pool: &str) -> Option<u64> {
    let status = level(group, pool).ok()?.status;
    (status.health != Health::Failed).then_some(status.transaction)
}

/// Removes the device of that number from the kernel's thin pool, where the last transaction that the kernel has
/// seen is that one. It is no error if there is none.
pub(super) fn forget(group: &str, pool: &str, last: u64, number: u64) -> io::Result<()> {
    if transaction(group, pool) != Some(last) {
        return Ok(());
    }
    let Some(name) = device_name(group, pool).ok().flatten() else { return Ok(()) };
    match device_mapper::message(&name, &format!("delete {number}")) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODATA.raw_os_error()) => Ok(()),
        other => other,
    }
}

/// Whether a command that was killed in the middle left a thin pool suspended: then everything in it waits.
pub(super) fn is_suspended(group: &str, pool: &str) -> bool {
    let name = device_name(group, pool).ok().flatten();
    let state = name.and_then(|name| device_mapper::state(&name).ok().flatten());
    state.is_some_and(|state| state.mapped.suspended)
}

/// Refuses a thin pool that can't be written, with the command that mends it.
pub(super) fn healthy(group: &str, pool: &str, level: &Fill) -> Result<(), Trouble> {
    /// The metadata's fill level, in hundredths of a percent, from which a read-only pool is so for want of
    /// metadata: the kernel keeps some blocks back.
    const METADATA_FULL_FROM: u16 = 9000;
    let full = format!("{group}/{pool}");
    let again = format!("then stop its users, lvchange -an {full} and lvchange -ay {full}");
    Err(match level.status.health {
        Health::Good | Health::OutOfData => return Ok(()),
        Health::NeedsCheck => Kind::NeedsCheck.because(format!(
            "thin pool {full} needs its metadata checked (needs_check): stop its users, lvchange -an {full} and lvchange -ay \
             {full} check it; lvconvert --repair {full} where that finds damage"
        )),
        Health::ReadOnly if level.usage().metadata >= METADATA_FULL_FROM => Kind::MetadataFull.because(format!(
            "thin pool {full} is read-only, as its metadata is full: give it space (lvextend --poolmetadatasize +SIZE {full}), \
             {again}"
        )),
        Health::ReadOnly => Kind::MetadataReadOnly.because(format!(
            "thin pool {full} is read-only, as its metadata can't be written (metadata_read_only): look at its disks, {again}; \
             lvconvert --repair {full} where that finds damage"
        )),
        Health::Failed => Kind::ThinPoolFailed.because(format!(
            "the kernel gave up on thin pool {full} (failed): look at its disks, stop its users, lvchange -an {full}, \
             lvconvert --repair {full}, lvchange -ay {full}"
        )),
    })
}

/// The trouble of a thin pool that can be read and, in part, be written. `growth`: by how much it can grow
/// now.
pub(super) fn warning(group: &str, pool: &str, level: &Fill, growth: Growth) -> Option<Trouble> {
    if level.status.health == Health::OutOfData {
        return Some(Kind::OutOfData.because(format!(
            "thin pool {group}/{pool} is full: writes to new places of its volumes fail. Give it space (lvextend -L +SIZE \
             {group}/{pool}; vgextend {group} DEVICE where the group has none), or delete volumes"
        )));
    }
    level.lacks_metadata(growth).then(|| crowded(group, pool, level))
}

/// The trouble of a thin pool in which nothing more is made for want of metadata.
pub(super) fn crowded(group: &str, pool: &str, level: &Fill) -> Trouble {
    Kind::MetadataNearlyFull.because(format!(
        "the metadata of thin pool {pool} of volume group {group} is {} % full, so no volume or snapshot is made in it; what there is \
         goes on. Give it space (lvextend --poolmetadatasize +SIZE {group}/{pool}; vgextend {group} DEVICE where the group has none), or \
         delete snapshots",
        level.usage().metadata / 100
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: &str) -> Fill {
        Fill { status: fill::pool_status(status).unwrap(), chunk: 65_536 }
    }

    #[test]
    fn every_sick_pool_is_named_with_the_command_that_mends_it() {
        for (status, kind, words) in [
            (
                "1 9/4096 1/400 - ro no_discard_passdown error_if_no_space needs_check 1024",
                Kind::NeedsCheck,
                "lvchange -ay vg/pool",
            ),
            (
                "1 4090/4096 1/400 - ro no_discard_passdown error_if_no_space - 1024",
                Kind::MetadataFull,
                "lvextend --poolmetadatasize",
            ),
            (
                "1 9/4096 1/400 - ro no_discard_passdown error_if_no_space - 1024",
                Kind::MetadataReadOnly,
                "lvconvert --repair vg/pool",
            ),
            ("Fail", Kind::ThinPoolFailed, "lvconvert --repair vg/pool"),
        ] {
            let trouble = healthy("vg", "pool", &of(status)).unwrap_err();
            assert_eq!(trouble.kind, kind, "{status}");
            assert!(trouble.reason.contains(words), "{trouble:?}");
        }
        let full = of("1 9/4096 400/400 - out_of_data_space no_discard_passdown error_if_no_space - 1024");
        assert_eq!(healthy("vg", "pool", &full), Ok(()), "its volumes can still be read");
        let warned = warning("vg", "pool", &full, Growth::default()).unwrap();
        assert_eq!(warned.kind, Kind::OutOfData);
        assert!(warned.reason.contains("lvextend -L +SIZE vg/pool"), "{warned:?}");
        assert_eq!(
            warning("vg", "pool", &of("1 9/4096 1/400 - rw - error_if_no_space - 1024"), Growth::default()),
            None
        );
        let crowded = of("1 3300/4096 1/400 - rw no_discard_passdown error_if_no_space - 1024");
        let warned = warning("vg", "pool", &crowded, Growth::default()).unwrap();
        assert_eq!(warned.kind, Kind::MetadataNearlyFull);
        for words in [
            "metadata of thin pool pool of volume group vg is 80 % full",
            "lvextend --poolmetadatasize +SIZE vg/pool",
        ] {
            assert!(warned.reason.contains(words), "{warned:?}");
        }
        let words = "Thin pool vg-pool-tpool (253:2) transaction_id is 2, while expected 77.";
        let ahead = not_activated("vg", "pool", words);
        assert_eq!(ahead.kind, Kind::TransactionMismatch);
        for words in ["has seen transaction 2", "expects 77", "let the transaction_id of pool be 2"] {
            assert!(ahead.reason.contains(words), "{ahead:?}");
        }
        assert_eq!(not_activated("vg", "pool", "Check of pool vg/pool failed").kind, Kind::ThinPoolFailed);
    }
}
