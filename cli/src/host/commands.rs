//! The commands on one host: arguments in, results out.

use std::{fs::File, path::Path};

use super::{
    Error,
    census::Census,
    error::Context,
    images::Shape,
    keys,
    layout::Root,
    names::Name,
    serve, space, stack,
    users::{self, Users},
    view::{DRIVER, SnapshotView, View},
    volumes::{NewVolume, Volume, Volumes},
};
use crate::{
    args::{
        Attach, Command, Detach, Import, Label, List, Mount, Names, NewVolume as Wanted, Output, Prune,
        Remove, Resize, Selection, SnapshotCommand, SystemCommand, VolumeCommand,
    },
    failure::{self, Failure},
    labels::{self, Filter},
    output, sizes, terminal,
};

/// Runs a command on this host, whose volumes lie below `root`.
pub fn run(command: Command, root: &Path, output: Output) -> Result<(), Failure> {
    let volumes = Volumes::new(Root::new(root));
    match command {
        Command::Volume(command) => match command {
            VolumeCommand::Create(arguments) => create(&volumes, &arguments.new),
            VolumeCommand::Ls(arguments) => list(&volumes, &arguments, output),
            VolumeCommand::Inspect(arguments) => inspect(&volumes, &arguments, output),
            VolumeCommand::Rm(arguments) => remove(&volumes, &arguments),
            VolumeCommand::Prune(arguments) => prune(&volumes, &arguments),
            VolumeCommand::Label(arguments) => label(&volumes, &arguments),
            VolumeCommand::Resize(arguments) => resize(&volumes, &arguments),
            VolumeCommand::Mount(arguments) => mount(&volumes, &arguments),
            VolumeCommand::Clone(arguments) => {
                let to = Name::new(arguments.stack.as_deref(), &arguments.to)?;
                volumes.clone_volume(&arguments.from, &to)?;
                Ok(output::lines([to.full()])?)
            }
            VolumeCommand::Cp(arguments) => Ok(volumes.transfer(&arguments.from, &arguments.to)?),
            VolumeCommand::Export(arguments) => Ok(volumes.export(&arguments.name)?),
            VolumeCommand::Import(arguments) => import(&volumes, &arguments),
            VolumeCommand::Snapshot(command) => snapshot(&volumes, command, output),
            VolumeCommand::Restore(arguments) => {
                let (name, snapshot) = (&arguments.one.name, &arguments.one.snapshot);
                let safety = volumes.restore(name, snapshot)?;
                eprintln!("What volume '{name}' had before is kept as its snapshot {safety}");
                Ok(output::lines([name])?)
            }
            VolumeCommand::Attach(arguments) => attach(&volumes, arguments),
            VolumeCommand::Detach(arguments) => detach(&volumes, &arguments),
        },
        Command::Stack(command) => stack::run(&volumes, command),
        Command::Events(_) => Err(Failure::usage(
            "events are kept by clusters alone: leave --host out, or see who uses a volume with tierce --host volume inspect",
        )),
        Command::Version => Ok(output::lines([format!("Client: {}", env!("CARGO_PKG_VERSION"))])?),
        // Done before anything is looked at.
        Command::Completions(_) | Command::Man(_) => Ok(()),
        Command::Serve(arguments) => Ok(serve::run(root, &arguments.socket)?),
        Command::System(command) => match command {
            SystemCommand::Df(arguments) => space::show(&volumes, &arguments, output),
            SystemCommand::Prune(arguments) => {
                volumes.clean()?;
                if arguments.volumes {
                    let all = Prune {
                        force: arguments.force,
                        filters: Vec::new(),
                        selection: Selection::default(),
                    };
                    prune(&volumes, &all)?;
                }
                Ok(())
            }
        },
    }
}

fn create(volumes: &Volumes, arguments: &Wanted) -> Result<(), Failure> {
    let (name, new) = new_volume(arguments)?;
    volumes.create(&name, &new)?;
    Ok(output::lines([name.full()])?)
}

fn new_volume(arguments: &Wanted) -> Result<(Name, NewVolume), Error> {
    let name = Name::new(arguments.stack.as_deref(), &arguments.name)?;
    let labels = labels::parse(&arguments.labels)?;
    let filesystem = arguments.filesystem.as_deref();
    let shape = match &arguments.size {
        Some(text) => {
            let filesystem = filesystem.unwrap_or("ext4").parse()?;
            Some(Shape { size_bytes: size(text)?, filesystem, encrypted: arguments.encrypt })
        }
        None if filesystem.is_some() => {
            return Err(Error::InvalidArgument(
                "--filesystem needs --size: a volume without one is a plain folder".to_owned(),
            ));
        }
        None if arguments.encrypt => {
            return Err(Error::InvalidArgument(
                "--encrypt needs --size: a volume without one is a plain folder".to_owned(),
            ));
        }
        None => None,
    };
    let key_file = match &arguments.key_file {
        Some(path) => Some(keys::file(path)?),
        None if arguments.encrypt => {
            return Err(Error::InvalidArgument(
                "--encrypt needs a key: say where it is with --key-file".to_owned(),
            ));
        }
        None => None,
    };
    Ok((name, NewVolume { labels, shape, key_file, filling: None }))
}

fn size(text: &str) -> Result<u64, Error> {
    sizes::parse(text).ok_or_else(|| Error::InvalidSize(text.escape_debug().take(40).collect()))
}

fn import(volumes: &Volumes, arguments: &Import) -> Result<(), Failure> {
    let (name, new) = new_volume(&arguments.new)?;
    match &arguments.file {
        Some(path) => {
            let file = File::open(path).doing(|| format!("open {}", path.display()))?;
            volumes.import(&name, &new, file)?;
        }
        None => volumes.import(&name, &new, std::io::stdin().lock())?,
    }
    Ok(output::lines([name.full()])?)
}

fn snapshot(volumes: &Volumes, command: SnapshotCommand, output: Output) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Create(arguments) => {
            volumes.snapshot(&arguments.one.name, &arguments.one.snapshot)?;
            Ok(output::lines([&arguments.one.snapshot])?)
        }
        SnapshotCommand::Rm(arguments) => {
            volumes.remove_snapshot(&arguments.name, &arguments.snapshot)?;
            Ok(output::lines([&arguments.snapshot])?)
        }
        SnapshotCommand::List(arguments) => {
            let found = volumes.snapshots(&arguments.name)?;
            let views: Vec<_> =
                found.iter().map(|snapshot| SnapshotView::of(&arguments.name, snapshot)).collect();
            match output {
                Output::Json => output::json(&views)?,
                Output::Yaml => output::yaml(&views)?,
                Output::Name => output::lines(views.iter().map(|view| &view.name))?,
                Output::Table | Output::Wide => {
                    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
                    let mut rows = vec![row(["SNAPSHOT", "TAKEN", "SIZE"])];
                    rows.extend(
                        views.iter().map(|view| row([&view.name, &view.taken_at, &sizes::used(view.size)])),
                    );
                    output::columns(&rows)?;
                }
            }
            Ok(())
        }
    }
}

fn resize(volumes: &Volumes, arguments: &Resize) -> Result<(), Failure> {
    volumes.resize(&arguments.name, size(&arguments.size)?)?;
    Ok(output::lines([&arguments.name])?)
}

fn mount(volumes: &Volumes, arguments: &Mount) -> Result<(), Failure> {
    if let (Some(path), [name]) = (&arguments.key_file, arguments.names.as_slice()) {
        volumes.mount_with_key(name, keys::file(path)?)?;
        return Ok(output::lines([name])?);
    } else if arguments.key_file.is_some() {
        return Err(Error::InvalidArgument("--key-file is of one volume: name one".to_owned()).into());
    }
    let names = if arguments.all {
        let (all, _) = volumes.list()?;
        all.into_iter().filter(|volume| volume.image.is_some()).map(|volume| volume.name.full()).collect()
    } else {
        arguments.names.clone()
    };
    each(&names, |name| volumes.mount_named(name).map(drop))
}

fn list(volumes: &Volumes, arguments: &List, output: Output) -> Result<(), Failure> {
    let chosen = filtered(volumes, &arguments.filters)?;
    let names = || chosen.iter().map(|volume| volume.name.full());
    if arguments.quiet || output == Output::Name {
        return Ok(output::lines(names())?);
    }
    if output == Output::Table {
        let row = |driver: &str, name: &str| format!("{driver:<11}{name}");
        let rows = names().map(|name| row(DRIVER, &name));
        return Ok(output::lines(std::iter::once(row("DRIVER", "VOLUME NAME")).chain(rows))?);
    }
    let views = views(volumes, &chosen)?;
    match output {
        Output::Json => output::json(&views)?,
        Output::Yaml => output::yaml(&views)?,
        _ => {
            let mut rows = vec![
                vec!["DRIVER", "VOLUME NAME", "SIZE", "LIMIT", "CREATED", "IN USE BY", "MOUNTPOINT"]
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            ];
            rows.extend(views.into_iter().map(|view| {
                let users = view.in_use_by.join(", ");
                vec![
                    view.driver.to_owned(),
                    view.name,
                    sizes::used(view.size),
                    view.created_at,
                    users,
                    view.mountpoint,
                ]
            }));
            output::columns(&rows)?;
        }
    }
    Ok(())
}

/// The volumes that the filters accept; what can't be a volume is told as a warning.
fn filtered(volumes: &Volumes, filters: &[String]) -> Result<Vec<Volume>, Failure> {
    let filter = Filter::parse(filters).map_err(Error::from)?;
    let (mut all, odd) = volumes.list()?;
    for odd in odd {
        eprintln!("Warning: {odd}");
    }
    let none = std::collections::BTreeMap::new();
    all.retain(|volume| filter.accepts(volume.record.as_ref().map_or(&none, |record| &record.labels)));
    Ok(all)
}

fn views(volumes: &Volumes, chosen: &[Volume]) -> Result<Vec<View>, Error> {
    let census = Census::take()?;
    chosen.iter().map(|volume| View::of(volumes, volume, &census)).collect()
}

fn inspect(volumes: &Volumes, arguments: &Names, output: Output) -> Result<(), Failure> {
    let (mut found, mut failed) = (Vec::new(), false);
    for name in &arguments.names {
        match volumes.get(name) {
            Ok(volume) => found.push(volume),
            Err(error) => {
                failed = true;
                failure::tell(&error, false);
            }
        }
    }
    let views = views(volumes, &found)?;
    match output {
        Output::Yaml => output::yaml(&views)?,
        Output::Name => output::lines(views.iter().map(|view| &view.name))?,
        Output::Table | Output::Wide | Output::Json if failed && views.is_empty() => {}
        Output::Table | Output::Wide | Output::Json => output::json(&views)?,
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

fn remove(volumes: &Volumes, arguments: &Remove) -> Result<(), Failure> {
    each(&arguments.names, |name| volumes.remove(name, arguments.force))
}

/// Does something with each name and prints the name; one that fails does not stop the others.
fn each(names: &[String], act: impl Fn(&str) -> Result<(), Error>) -> Result<(), Failure> {
    // One name keeps its own error and status.
    if let [name] = names {
        act(name)?;
        return Ok(output::lines([name])?);
    }
    let mut failed = false;
    for name in names {
        match act(name) {
            Ok(()) => output::lines([name])?,
            Err(error) => {
                failed = true;
                failure::tell(&error, false);
            }
        }
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

fn prune(volumes: &Volumes, arguments: &Prune) -> Result<(), Failure> {
    let chosen = filtered(volumes, &arguments.filters)?;
    if !arguments.force {
        output::lines(["WARNING! This will remove all local volumes not used by at least one container."])?;
        if !terminal::confirmed("Are you sure you want to continue?")? {
            return Ok(());
        }
        output::lines([""])?;
    }
    let census = Census::take()?;
    let (mut removed, mut reclaimed, mut failed) = (Vec::new(), 0_u64, false);
    for volume in chosen {
        let mut attempt = || -> Result<(), Error> {
            if !Users::of(&volume, &census)?.is_empty() {
                return Ok(());
            }
            let (bytes, _) = volumes.bytes_used(&volume)?;
            match volumes.remove(&volume.name.full(), false) {
                // Somebody took it, or removed it, meanwhile.
                Err(Error::InUse { .. } | Error::NotFound(_)) => return Ok(()),
                other => other?,
            }
            removed.push(volume.name.full());
            reclaimed = reclaimed.saturating_add(bytes);
            Ok(())
        };
        if let Err(error) = attempt() {
            failed = true;
            failure::tell(&error, false);
        }
    }
    if !removed.is_empty() {
        output::lines(["Deleted Volumes:".to_owned()].into_iter().chain(removed).chain([String::new()]))?;
    }
    output::lines([format!("Total reclaimed space: {}", sizes::used(reclaimed))])?;
    if failed { Err(Failure::Told) } else { Ok(()) }
}

fn label(volumes: &Volumes, arguments: &Label) -> Result<(), Failure> {
    volumes.label(&arguments.name, &labels::parse_changes(&arguments.changes).map_err(Error::from)?)?;
    Ok(output::lines([&arguments.name])?)
}

fn attach(volumes: &Volumes, arguments: Attach) -> Result<(), Failure> {
    let attachment = users::attachment(&arguments.to, arguments.pid, arguments.path, arguments.read_only)?;
    volumes.attach(&arguments.name, &attachment)?;
    let shown_at = attachment.path;
    Ok(output::lines([shown_at.as_deref().map_or(arguments.name, |path: &Path| path.display().to_string())])?)
}

fn detach(volumes: &Volumes, arguments: &Detach) -> Result<(), Failure> {
    volumes.detach(&arguments.name, &arguments.from)?;
    Ok(output::lines([&arguments.name])?)
}
