//! `volume prune`: removes what nothing uses, once it was shown.

use serde::Serialize;

use super::{
    Error, advice,
    census::Census,
    listing,
    users::Users,
    volumes::{Volume, Volumes},
};
use crate::{
    args::{Output, Prune},
    failure::Failure,
    output, sizes, terminal,
};

/// What was removed, by the names that Docker's API has for it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    volumes_deleted: Vec<String>,
    space_reclaimed: u64,
}

/// What would be removed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Unused {
    name: String,
    size: u64,
}

pub(super) fn prune(volumes: &Volumes, arguments: &Prune, output: Output) -> Result<(), Failure> {
    if !output.is_for_people() && !arguments.force && !arguments.dry_run {
        return Err(Failure::unasked());
    }
    let Looked { unused, named, unreturned } = unused(volumes, arguments)?;
    if named > 0 {
        terminal::note(&format!(
            "Volumes with a name are kept ({named} that nothing uses): --all takes them too, volume prune --filter those with a label"
        ));
    }
    if arguments.dry_run {
        return Ok(show(&unused, output)?);
    }
    if !arguments.force && !unused.is_empty() {
        output::lines([format!(
            "WARNING! This will remove {} below {}, which nothing uses, with {} data:",
            if unused.len() == 1 { "1 volume".to_owned() } else { format!("{} volumes", unused.len()) },
            volumes.root.path().display(),
            if unused.len() == 1 { "its" } else { "their" },
        )])?;
        show(&unused, output)?;
        match terminal::confirmed("Are you sure you want to continue?")? {
            Some(true) => {}
            Some(false) => return Ok(()),
            None => return Err(Failure::unanswered()),
        }
        output::lines([""])?;
    }
    let (mut pruned, mut failed) = (Pruned::default(), false);
    for (volume, bytes) in unused {
        let name = volume.name.full();
        match volumes.remove_idle(&name, &unreturned) {
            Ok(()) => {
                pruned.volumes_deleted.push(name);
                pruned.space_reclaimed = pruned.space_reclaimed.saturating_add(bytes);
            }
            // Somebody took it, or removed it, meanwhile.
            Err(Error::InUse(_) | Error::NotFound { .. }) => {}
            Err(error) => {
                failed = true;
                advice::tell(&error, volumes.root.path());
                if matches!(error, Error::Leftover { .. }) {
                    pruned.volumes_deleted.push(name);
                }
            }
        }
    }
    tell(pruned, output)?;
    if failed { Err(Failure::Told) } else { Ok(()) }
}

/// Tells a program that nothing was removed; a person is told nothing.
pub(super) fn nothing(output: Output) -> std::io::Result<()> {
    if output.is_for_people() { Ok(()) } else { tell(Pruned::default(), output) }
}

fn tell(pruned: Pruned, output: Output) -> std::io::Result<()> {
    match output {
        Output::Json => output::json(&pruned),
        Output::Yaml => output::yaml(&pruned),
        Output::Name => output::lines(pruned.volumes_deleted),
        Output::Table | Output::Wide => {
            let Pruned { volumes_deleted: removed, space_reclaimed } = pruned;
            if !removed.is_empty() {
                let head = ["Deleted Volumes:".to_owned()];
                output::lines(head.into_iter().chain(removed).chain([String::new()]))?;
            }
            output::lines([format!("Total reclaimed space: {}", sizes::used(space_reclaimed))])
        }
    }
}

fn show(volumes: &[(Volume, u64)], output: Output) -> std::io::Result<()> {
    let names = || volumes.iter().map(|(volume, _)| volume.name.full());
    if !output.is_for_people() {
        let sizes = volumes.iter().map(|(_, bytes)| *bytes);
        let unused: Vec<Unused> = names().zip(sizes).map(|(name, size)| Unused { name, size }).collect();
        return match output {
            Output::Yaml => output::yaml(&unused),
            Output::Name => output::lines(names()),
            Output::Json | Output::Table | Output::Wide => output::json(&unused),
        };
    }
    let mut rows = vec![["VOLUME NAME", "SIZE"].map(str::to_owned).to_vec()];
    rows.extend(volumes.iter().map(|(volume, bytes)| vec![volume.name.full(), sizes::used(*bytes)]));
    output::columns(&rows)
}

/// What a look at all volumes found.
#[derive(Default)]
struct Looked {
    /// Those that nothing uses, of those that are meant, with the bytes of each.
    unused: Vec<(Volume, u64)>,
    /// How many others that nothing uses have a name.
    named: usize,
    /// The full names of those whose uses were not given back.
    unreturned: Vec<String>,
}

fn unused(volumes: &Volumes, arguments: &Prune) -> Result<Looked, Failure> {
    let chosen = arguments.all || !arguments.filters.is_empty();
    let census = Census::take()?;
    let filtered = listing::filtered(volumes, &arguments.filters)?;
    let users = Users::of_each(&filtered, &census)?;
    let found: Vec<_> = filtered.into_iter().zip(users).filter(|(_, users)| users.is_empty()).collect();
    if found.is_empty() {
        return Ok(Looked::default());
    }
    let unreturned: Vec<String> =
        found.iter().filter_map(|(volume, users)| users.unreturned(volume)).collect();
    let engines = volumes.engines.ask(&unreturned);
    let (mut unused, mut named) = (Vec::new(), 0);
    for (volume, mut users) in found {
        users.add_containers(&volume, &engines)?;
        if !users.is_empty() {
            continue;
        }
        if chosen || is_anonymous(&volume.name.full()) {
            let bytes = volumes.bytes_told(&volume);
            unused.push((volume, bytes));
        } else {
            named += 1;
        }
    }
    match engines.silent.into_iter().next() {
        // Unknown is never "unused".
        Some(silent) if !unused.is_empty() => Err(Error::NotPruned(silent).into()),
        _ => Ok(Looked { unused, named, unreturned }),
    }
}

/// Whether Docker or Podman made up the name, for a volume that was asked for without one.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
