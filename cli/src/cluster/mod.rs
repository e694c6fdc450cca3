//! The commands on a Kubernetes cluster: arguments in, results out. `tierce-client` does what they ask for.

mod changes;
mod completion;
mod create;
mod events;
mod inspect;
mod list;
mod page;
mod patience;
mod prune;
mod removal;
mod snapshots;
mod space;
mod version;

use tierce_client::{Cluster, Connection};

use crate::{
    args::{Command, Output, SnapshotCommand, StackCommand, SystemCommand, VolumeCommand},
    failure::Failure,
};

pub(crate) use completion::names;

impl From<tierce_client::Error> for Failure {
    fn from(error: tierce_client::Error) -> Self {
        Self::Command { usage: error.is_usage(), error: error.into() }
    }
}

/// Runs a command on a cluster.
pub(crate) fn run(command: Command, connection: &Connection, output: Output) -> Result<(), Failure> {
    runtime()?.block_on(dispatch(command, connection, output))
}

/// One thread: commands wait for the cluster, and a start must cost nothing.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn dispatch(command: Command, connection: &Connection, output: Output) -> Result<(), Failure> {
    let open = || Cluster::open(connection);
    match command {
        Command::Volume(command) => volume(command, connection, output).await,
        Command::Events(arguments) => events::show(&open().await?, &arguments, output).await,
        Command::System(SystemCommand::Df(arguments)) => {
            space::show(&open().await?, &arguments, output).await
        }
        Command::Version => version::show(connection, output).await,
        // Done before anything is looked at.
        Command::Completions(_) | Command::Man(_) | Command::Stack(StackCommand::Manifests(_)) => Ok(()),
        Command::System(SystemCommand::Prune(_)) => Err(hosts(
            "system prune",
            "the nodes clear up themselves, and tierce volume prune removes volumes that no pod uses",
        )),
        Command::Stack(StackCommand::Plan(_)) => {
            Err(hosts("stack plan", "tierce stack manifests shows the volumes of a Compose file"))
        }
        Command::Stack(StackCommand::Create(_)) => {
            Err(hosts("stack create", "make them with tierce stack manifests | kubectl apply -f -"))
        }
        Command::Stack(StackCommand::Rm(_)) => {
            Err(hosts("stack rm", "remove them with tierce stack manifests | kubectl delete -f -"))
        }
        Command::Serve(_) => {
            Err(hosts("serve", "the kubelet asks the node plugin, which the Helm chart installs"))
        }
    }
}

async fn volume(command: VolumeCommand, connection: &Connection, output: Output) -> Result<(), Failure> {
    let open = || Cluster::open(connection);
    match command {
        VolumeCommand::Create(arguments) => create::create(&open().await?, &arguments, output).await,
        VolumeCommand::Ls(arguments) => list::list(&open().await?, &arguments, output).await,
        VolumeCommand::Inspect(arguments) => inspect::inspect(&open().await?, &arguments, output).await,
        VolumeCommand::Rm(arguments) => removal::remove(&open().await?, &arguments, output).await,
        VolumeCommand::Prune(arguments) => prune::prune(&open().await?, &arguments, output).await,
        VolumeCommand::Label(arguments) => changes::label(&open().await?, &arguments, output).await,
        VolumeCommand::Resize(arguments) => changes::resize(&open().await?, &arguments, output).await,
        VolumeCommand::Clone(arguments) => create::clone_volume(&open().await?, &arguments, output).await,
        VolumeCommand::Restore(arguments) => changes::restore(&open().await?, &arguments, output).await,
        VolumeCommand::Snapshot(command) => {
            let cluster = open().await?;
            match command {
                SnapshotCommand::Create(arguments) => snapshots::create(&cluster, &arguments, output).await,
                SnapshotCommand::List(arguments) => snapshots::list(&cluster, &arguments.name, output).await,
                SnapshotCommand::Rm(arguments) => snapshots::remove(&cluster, &arguments, output).await,
            }
        }
        VolumeCommand::Key(_) => Err(hosts(
            "volume key",
            "a volume gets another key by kubectl annotate volume NAME --overwrite storage.tierce.dev/rotate-key=$(date +%s)",
        )),
        VolumeCommand::Mount(_) => Err(hosts("volume mount", "a volume is mounted for the pods that use it")),
        VolumeCommand::Cp(_) => Err(hosts("volume cp", "kubectl cp copies by a pod that uses the volume")),
        VolumeCommand::Export(_) => Err(hosts(
            "volume export",
            "a pod that uses the volume writes an archive: kubectl exec POD -- tar -c -C FOLDER . > FILE",
        )),
        VolumeCommand::Import(_) => Err(hosts(
            "volume import",
            "make the volume, and let a pod that uses it unpack: kubectl exec -i POD -- tar -x -C FOLDER < FILE",
        )),
        VolumeCommand::Attach(_) => Err(hosts("volume attach", "a volume is in use while a pod has it")),
        VolumeCommand::Detach(_) => Err(hosts("volume detach", "a volume is in use while a pod has it")),
    }
}

/// What is for a host alone, and what does the same on a cluster.
fn hosts(command: &str, on_a_cluster: &str) -> Failure {
    Failure::usage(format!("{command} is for volumes of this host: add --host; on a cluster {on_a_cluster}"))
}
