//! The commands on one host: arguments in, results out.

use std::{collections::BTreeMap, fs::File, path::Path};

use rustix::fs::Mode;

use super::{
    Error, access, advice, disk_usage,
    keys::{self, Files},
    layout::Root,
    left_out::LeftOut,
    listing,
    names::{Name, STANDALONE},
    prune, serve,
    shape::{Words, parse_size},
    stack,
    unfinished_copies::Whose,
    users,
    view::SnapshotView,
    volumes::{NewVolume, Volumes},
};
use crate::{
    args::{
        Attach, Command, Detach, Import, KeyChange, KeyCommand, Label, Mount, NewVolume as Wanted, Output,
        Prune, Resize, Selection, SnapshotCommand, SystemCommand, VolumeCommand,
    },
    config::Pool,
    failure::{self, Failure},
    labels, output, sizes, terminal,
};

/// Runs a command on this host, whose volumes lie below `root`.
pub(crate) fn run(command: Command, root: &Path, pools: Vec<Pool>, output: Output) -> Result<(), Failure> {
    carry_out(command, root, pools, output).map_err(|failure| advice::given(failure, root))
}

fn carry_out(command: Command, root: &Path, pools: Vec<Pool>, output: Output) -> Result<(), Failure> {
    let concerns_volumes =
        matches!(command, Command::Volume(_) | Command::Stack(_) | Command::System(_) | Command::Serve(_));
    if concerns_volumes {
        advice::check(root)?;
    }
    // Who reaches a volume is no matter of the caller's mask: what is made here is made with modes of our own.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let volumes = Volumes::new(Root::new(root), &pools, keys::asking(reads_passphrases(&command)));
    if concerns_volumes {
        if let Err(error) = volumes.root.close() {
            failure::warn(&error);
        }
        volumes.clear_killed_exports();
    }
    let done = by_command(&volumes, command, root, pools, output);
    volumes.tell_who_lists_the_removed();
    done
}

fn by_command(
    volumes: &Volumes,
    command: Command,
    root: &Path,
    pools: Vec<Pool>,
    output: Output,
) -> Result<(), Failure> {
    match command {
        Command::Volume(command) => match command {
            VolumeCommand::Create(arguments) => create(volumes, &arguments.new, output),
            VolumeCommand::Ls(arguments) => listing::list(volumes, &arguments, output),
            VolumeCommand::Inspect(arguments) => listing::inspect(volumes, &arguments, output),
            VolumeCommand::Rm(arguments) => {
                each(volumes, &arguments.names, output, |name| volumes.remove(name, arguments.force))
            }
            VolumeCommand::Prune(arguments) => prune::prune(volumes, &arguments, output),
            VolumeCommand::Label(arguments) => label(volumes, &arguments, output),
            VolumeCommand::Resize(arguments) => resize(volumes, &arguments, output),
            VolumeCommand::Mount(arguments) => mount(volumes, &arguments, output),
            VolumeCommand::Key(KeyCommand::Change(arguments)) => change_key(volumes, &arguments, output),
            VolumeCommand::Clone(arguments) => {
                let to = named(arguments.stack.as_deref(), &arguments.to)?;
                volumes.clone_volume(&arguments.from, &to, &LeftOut::new(arguments.strict.strict))?;
                Ok(output::name(output, &to.full())?)
            }
            VolumeCommand::Cp(arguments) => {
                let left_out = LeftOut::new(arguments.strict.strict);
                Ok(volumes.transfer(&arguments.from, &arguments.to, &left_out)?)
            }
            VolumeCommand::Export(arguments) => {
                Ok(volumes.export(&arguments.one.name, arguments.no_holes, arguments.strict.strict)?)
            }
            VolumeCommand::Import(arguments) => import(volumes, &arguments, output),
            VolumeCommand::Snapshot(command) => snapshot(volumes, command, output),
            VolumeCommand::Restore(arguments) => {
                let (name, snapshot) = (&arguments.one.name, &arguments.one.snapshot);
                let restored = volumes.restore(name, snapshot, &LeftOut::new(arguments.strict.strict))?;
                terminal::note(&format!(
                    "What volume '{name}' had before is kept as its snapshot {}",
                    restored.safety
                ));
                restored.left.map_or(Ok(()), Err)?;
                Ok(output::name(output, name)?)
            }
            VolumeCommand::Attach(arguments) => attach(volumes, arguments, output),
            VolumeCommand::Detach(arguments) => detach(volumes, &arguments, output),
        },
        Command::Stack(command) => stack::run(volumes, command, output),
        Command::Events(_) => Err(Failure::usage(
            "events are kept by clusters alone: leave --host out, or see who uses a volume with tierce --host volume inspect",
        )),
        Command::Version => Ok(version(output)?),
        // Done before anything is looked at.
        Command::Completions(_) | Command::Man(_) => Ok(()),
        Command::Serve(arguments) => Ok(serve::run(root, pools, &arguments.socket)?),
        Command::System(command) => match command {
            SystemCommand::Df(arguments) => disk_usage::show(volumes, &arguments, output),
            SystemCommand::Prune(arguments) => {
                let troubles = volumes.clean()?;
                for trouble in &troubles {
                    advice::tell(trouble, root);
                }
                if arguments.volumes {
                    let unused = Prune {
                        all: arguments.all,
                        dry_run: false,
                        force: arguments.force,
                        filters: Vec::new(),
                        selection: Selection::default(),
                    };
                    prune::prune(volumes, &unused, output)?;
                } else {
                    prune::nothing(output)?;
                }
                // Last, as local folders may not answer.
                volumes.remove_unfinished_copies(Whose::All)?;
                if troubles.is_empty() { Ok(()) } else { Err(Failure::Told) }
            }
        },
    }
}

fn version(output: Output) -> std::io::Result<()> {
    const CLIENT: &str = env!("CARGO_PKG_VERSION");
    // As of a cluster, which has more to tell.
    let report = BTreeMap::from([("client", CLIENT)]);
    match output {
        Output::Json => output::json(&report),
        Output::Yaml => output::yaml(&report),
        Output::Name => output::lines([CLIENT]),
        Output::Table | Output::Wide => output::lines([format!("Client: {CLIENT}")]),
    }
}

/// Whether standard input, where it is no terminal, is there for passphrases.
fn reads_passphrases(command: &Command) -> bool {
    matches!(
        command,
        Command::Volume(
            VolumeCommand::Create(_)
                | VolumeCommand::Import(_)
                | VolumeCommand::Key(_)
                | VolumeCommand::Mount(Mount { all: false, .. })
        )
    )
}

fn create(volumes: &Volumes, arguments: &Wanted, output: Output) -> Result<(), Failure> {
    let (name, new) = new_volume(volumes, arguments, false)?;
    volumes.create(&name, &new)?;
    Ok(output::name(output, &name.full())?)
}

/// A name on the command line: whoever names a stack means one.
fn named(stack: Option<&str>, name: &str) -> Result<Name, Error> {
    if stack == Some(STANDALONE) {
        return Err(Error::InvalidArgument(format!(
            "'{STANDALONE}' can't be a stack's name, as volumes of no stack lie there: leave --stack out"
        )));
    }
    Ok(Name::new(stack, name)?)
}

fn new_volume(
    volumes: &Volumes,
    arguments: &Wanted,
    input_is_taken: bool,
) -> Result<(Name, NewVolume), Error> {
    let asking = volumes.asking;
    let name = named(arguments.stack.as_deref(), &arguments.name)?;
    let labels = labels::parse(&arguments.labels)?;
    let words = Words {
        size: arguments.size.as_deref(),
        filesystem: arguments.filesystem.as_deref(),
        pool: arguments.pool.as_deref(),
        encryption: arguments.encrypt.then_some("encrypt"),
    };
    let shape = words.shape(|option| format!("--{option}"))?;
    // Nobody types a passphrase for what can't be made.
    shape.iter().try_for_each(|shape| volumes.check_pool(&shape.pool))?;
    let folder = access::Words {
        uid: arguments.uid.as_deref(),
        gid: arguments.gid.as_deref(),
        mode: arguments.mode.as_deref(),
    };
    let access = folder.access(|option| format!("--{option}"))?;
    let files =
        Files { key: arguments.key_file.as_deref(), passphrase: arguments.passphrase_file.as_deref() };
    if arguments.encrypt && input_is_taken && files.read_input(asking) {
        return Err(Error::InvalidArgument(
            "The archive comes from standard input, so the passphrase can't: give --passphrase-file FILE or --key-file FILE".to_owned(),
        ));
    }
    let key = if arguments.encrypt { Some(files.new_key(&name.full(), asking)?) } else { None };
    Ok((name, NewVolume { labels, shape, access, key, filling: None, by_full_name: false, stack: None }))
}

fn import(volumes: &Volumes, arguments: &Import, output: Output) -> Result<(), Failure> {
    let file = arguments.file.as_deref().filter(|path| path.as_os_str() != "-");
    let (name, new) = new_volume(volumes, &arguments.new, file.is_none())?;
    let how = (arguments.strip_components, arguments.strict.strict);
    match file {
        Some(path) => {
            let file = File::open(path).map_err(|source| Error::NoSuchFile {
                what: "the archive",
                path: path.to_owned(),
                source,
            })?;
            volumes.import(&name, &new, file, how)?;
        }
        None => volumes.import(&name, &new, std::io::stdin().lock(), how)?,
    }
    Ok(output::name(output, &name.full())?)
}

fn snapshot(volumes: &Volumes, command: SnapshotCommand, output: Output) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Create(arguments) => {
            let left_out = LeftOut::new(arguments.strict.strict);
            volumes.snapshot(&arguments.one.name, &arguments.one.snapshot, &left_out)?;
            Ok(output::name(output, &arguments.one.snapshot)?)
        }
        SnapshotCommand::Rm(arguments) => {
            volumes.remove_snapshot(&arguments.name, &arguments.snapshot)?;
            Ok(output::name(output, &arguments.snapshot)?)
        }
        SnapshotCommand::List(arguments) => {
            let found = volumes.snapshots(&arguments.name)?;
            volumes.tell_of_earlier(&arguments.name, &found)?;
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

fn resize(volumes: &Volumes, arguments: &Resize, output: Output) -> Result<(), Failure> {
    volumes.resize(&arguments.name, parse_size(&arguments.size)?)?;
    Ok(output::name(output, &arguments.name)?)
}

fn mount(volumes: &Volumes, arguments: &Mount, output: Output) -> Result<(), Failure> {
    if arguments.names.is_empty() && !arguments.all {
        return Err(Failure::usage("Name the volumes to mount, or mount all that have a size with --all"));
    }
    let files =
        Files { key: arguments.key_file.as_deref(), passphrase: arguments.passphrase_file.as_deref() };
    if let Some(given) = files.named()? {
        let [name] = arguments.names.as_slice() else {
            return Err(Error::InvalidArgument("A key is of one volume: name one".to_owned()).into());
        };
        volumes.mount_with_key(name, &given)?;
        return Ok(output::name(output, name)?);
    }
    if !arguments.all {
        return each(volumes, &arguments.names, output, |name| volumes.mount_named(name).map(drop));
    }
    let (all, unseen) = volumes.list()?;
    for unseen in unseen {
        terminal::note(&format!("Warning: {unseen}"));
    }
    output::names(output, |mounted| {
        let mut failed = false;
        for name in all.into_iter().filter(|volume| volume.device.is_some()).map(|volume| volume.name.full())
        {
            match volumes.mount_named(&name) {
                Ok(_) => mounted.add(&name)?,
                // At a boot nobody is there to say its passphrase, and that is no failure.
                Err(error @ Error::Locked { .. }) => terminal::note(&format!("Warning: {error}")),
                Err(error) => {
                    failed = true;
                    advice::tell(&error, volumes.root.path());
                }
            }
        }
        if failed { Err(Failure::Told) } else { Ok(()) }
    })
}

fn change_key(volumes: &Volumes, arguments: &KeyChange, output: Output) -> Result<(), Failure> {
    let files =
        Files { key: arguments.key_file.as_deref(), passphrase: arguments.passphrase_file.as_deref() };
    volumes.change_key(&arguments.name, || files.new_key(&arguments.name, volumes.asking))?;
    Ok(output::name(output, &arguments.name)?)
}

/// Does something with each name and prints the name; one that fails does not stop the others.
fn each(
    volumes: &Volumes,
    names: &[String],
    output: Output,
    act: impl Fn(&str) -> Result<(), Error>,
) -> Result<(), Failure> {
    // One name keeps its own error and status.
    if let [name] = names {
        act(name)?;
        return Ok(output::name(output, name)?);
    }
    output::names(output, |done| {
        let mut failed = false;
        for name in names {
            match act(name) {
                Ok(()) => done.add(name)?,
                Err(error) => {
                    failed = true;
                    advice::tell(&error, volumes.root.path());
                }
            }
        }
        if failed { Err(Failure::Told) } else { Ok(()) }
    })
}

fn label(volumes: &Volumes, arguments: &Label, output: Output) -> Result<(), Failure> {
    volumes.label(&arguments.name, &labels::parse_changes(&arguments.changes).map_err(Error::from)?)?;
    Ok(output::name(output, &arguments.name)?)
}

fn attach(volumes: &Volumes, arguments: Attach, output: Output) -> Result<(), Failure> {
    let attachment = users::attachment(&arguments.to, arguments.pid, arguments.path, arguments.read_only)?;
    volumes.attach(&arguments.name, &attachment)?;
    let shown_at = attachment.path;
    let shown_at = shown_at.as_deref().map_or(arguments.name, |path: &Path| path.display().to_string());
    Ok(output::name(output, &shown_at)?)
}

fn detach(volumes: &Volumes, arguments: &Detach, output: Output) -> Result<(), Failure> {
    volumes.detach(&arguments.name, &arguments.from)?;
    Ok(output::name(output, &arguments.name)?)
}
