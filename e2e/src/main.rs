//! `tierce-e2e`: a local Kubernetes cluster in namespaces of its own, and what is proven on it.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tierce_e2e::cluster::{self, Cluster, Lifetime, Node};
use tierce_e2e::{images, tools};

/// A local Kubernetes cluster for Tierce, and what is proven on it.
#[derive(Parser)]
#[command(name = "tierce-e2e", version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the programs of the cluster from Go modules, into the user's cache folder.
    Tools,
    /// A cluster to play with.
    #[command(subcommand)]
    Cluster(ClusterTask),
    /// The first process of a cluster.
    #[command(hide = true)]
    RunCluster { state: PathBuf },
    /// The first process of a node.
    #[command(hide = true)]
    RunNode { state: PathBuf, name: String },
}

#[derive(Subcommand)]
enum ClusterTask {
    /// Start a cluster and wait until its nodes are Ready.
    Up {
        /// How many nodes, 1 to 9.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        #[command(flatten)]
        name: Name,
    },
    /// Run a command inside the cluster's namespaces, with kubectl and helm on its PATH.
    Exec {
        /// On this node, instead of beside the control plane.
        #[arg(long)]
        node: Option<String>,
        #[command(flatten)]
        name: Name,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        line: Vec<String>,
    },
    /// End a cluster and remove everything that it made.
    Down(Name),
}

#[derive(clap::Args)]
struct Name {
    /// The cluster's name; several may run side by side.
    #[arg(long, default_value = "tierce")]
    name: String,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tierce-e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Tools => {
            println!("{}", tools::ensure()?.display());
            Ok(())
        }
        Task::Cluster(task) => run_cluster_task(task),
        Task::RunCluster { state } => cluster::run_cluster(&state),
        Task::RunNode { state, name } => cluster::run_node(&state, &name),
    }
}

fn run_cluster_task(task: ClusterTask) -> Result<()> {
    match task {
        ClusterTask::Up { nodes, name } => {
            let tools = tools::ensure()?;
            let archives = images::basic(&tools)?;
            let started = Instant::now();
            let cluster = Cluster::up(&name.name, nodes, archives, tools, Lifetime::UntilDown)?;
            println!("cluster {} is Ready after {:.1} s", name.name, started.elapsed().as_secs_f64());
            println!("try:  tierce-e2e cluster exec -- kubectl get nodes");
            println!("logs: {}", cluster.state().path().join("logs").display());
            Ok(())
        }
        ClusterTask::Exec { node, name, line } => {
            let cluster = Cluster::find(&name.name)?;
            let mut command = match node {
                Some(node) => cluster.on_node(Node::parse(&node)?, &line[0])?,
                None => cluster.command(&line[0])?,
            };
            Err(command.args(&line[1..]).exec().into())
        }
        ClusterTask::Down(name) => cluster::down(&name.name),
    }
}
