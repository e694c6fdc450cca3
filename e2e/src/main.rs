//! `tierce-e2e`: a local Kubernetes cluster in namespaces of its own, and what is proven on it.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use tierce_e2e::cluster::{self, Cluster, Lifetime, Node, Size};
use tierce_e2e::images::ours::{self, Profile};
use tierce_e2e::lab::{self, Hardware};
use tierce_e2e::sanity::Over;
use tierce_e2e::{bench, demo, images, install, programs, sanity, suite, tools, unit};

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
    Tools {
        /// Only this one.
        tool: Option<String>,
        /// Print the folder that holds them.
        #[arg(long)]
        print_dir: bool,
    },
    /// Build the container images of a cluster and of Tierce, into the user's cache folder.
    Images(Build),
    /// Install Tierce on a running cluster, or upgrade it to the sources as they are now.
    Install {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        build: Build,
        /// A value of the chart, as for `helm --set`.
        #[arg(long)]
        set: Vec<String>,
    },
    /// What Tierce does, told as a story on a cluster of its own.
    Demo {
        /// The story of a volume group, encryption, a snapshot and a restore, on a node with a kernel of its own.
        #[arg(long)]
        disks: bool,
        #[command(flatten)]
        build: Build,
    },
    /// Build what the tests start, with a copy of this program beside it that Cargo leaves alone.
    Programs,
    /// The tests that Cargo runs; as root nothing of them stays when this is killed.
    Unit,
    /// csi-sanity against the real programs, with only etcd and kube-apiserver between them.
    Sanity {
        /// What the volumes lie on.
        #[arg(long, value_enum, default_value_t = Over::Here)]
        over: Over,
        /// Over LVM, with each access type plain and encrypted: twice as many runs.
        #[arg(long)]
        every: bool,
    },
    /// Measure, and print one table.
    #[command(args_conflicts_with_subcommands = true)]
    Bench {
        /// Only this part, or the figures of a part with a text in their names: `io`, `io/random write`. May be given several times.
        #[arg(long)]
        only: Vec<bench::Wanted>,
        /// Measure the programs and the chart of this commit of the history, by the measurements of this checkout.
        #[arg(long)]
        of: Option<String>,
        /// Keep the figures in this file, to compare them with others.
        #[arg(long)]
        save: Option<PathBuf>,
        #[command(flatten)]
        build: Build,
        #[command(subcommand)]
        task: Option<BenchTask>,
    },
    /// The measuring process.
    #[command(hide = true)]
    RunBench {
        #[arg(long, value_delimiter = '\n')]
        only: Vec<bench::Wanted>,
        /// The folder of a stand; without it: the cluster of KUBECONFIG.
        #[arg(long)]
        stand: Option<PathBuf>,
        #[arg(long)]
        audit_log: Option<PathBuf>,
    },
    /// One run of csi-sanity, in a process that has just the rights it needs.
    #[command(hide = true)]
    RunSanity {
        folder: PathBuf,
        #[arg(long)]
        every: bool,
    },
    /// The tests on a cluster of two nodes.
    Suite {
        /// Only tests whose name has this in it.
        #[arg(default_value = "")]
        filter: String,
        #[command(flatten)]
        build: Build,
        /// The tests that ask for nodes on kernels of their own.
        #[arg(long)]
        guests: bool,
        /// Leave the cluster for a look.
        #[arg(long)]
        keep: bool,
        /// On a running cluster of this name, with Tierce installed by a suite that was kept.
        #[arg(long)]
        on: Option<String>,
    },
    /// Guests with disks of their own, for what needs device-mapper.
    #[command(subcommand)]
    Lab(LabTask),
    /// A cluster to play with.
    #[command(subcommand)]
    Cluster(ClusterTask),
    /// The first process of a cluster.
    #[command(hide = true)]
    RunCluster { state: PathBuf },
    /// The process that removes a cluster when its harness is gone.
    #[command(hide = true)]
    SweepCluster { name: String },
    /// The first process of a node.
    #[command(hide = true)]
    RunNode { state: PathBuf, name: String },
    /// The process that a node with a kernel of its own is.
    #[command(hide = true)]
    RunGuest { state: PathBuf, name: String },
    /// The first process of Kubernetes in a guest.
    #[command(hide = true)]
    RunNodeInGuest { state: PathBuf, name: String },
    /// A command for a guest, run there.
    #[command(hide = true)]
    AskGuest {
        state: PathBuf,
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        line: Vec<String>,
    },
}

#[derive(Subcommand)]
enum BenchTask {
    /// Print the figures of two runs side by side, and which of them differ beyond doubt.
    Compare {
        /// What `bench --save` wrote before the change.
        before: PathBuf,
        /// What it wrote after it.
        after: PathBuf,
    },
}

#[derive(Subcommand)]
enum LabTask {
    /// Run a command in a guest: the host's files, which it can't change, and disks of its own.
    Run {
        /// How many empty disks: /dev/ubda, /dev/ubdb, …
        #[arg(long, default_value_t = 1)]
        disks: u8,
        /// The size of each in GiB; they take room only as they are written.
        #[arg(long, default_value_t = 2)]
        disk_gib: u32,
        /// Its memory in MiB.
        #[arg(long, default_value_t = 512)]
        memory: u32,
        /// The processor that it runs on; by default one that no other guest has.
        #[arg(long)]
        cpu: Option<usize>,
        /// More kernel modules to load at boot.
        #[arg(long, value_delimiter = ',')]
        modules: Vec<String>,
        /// A folder below /tmp, /run or /mnt that the command must see; this folder and cargo's it sees anyway.
        #[arg(long)]
        see: Vec<PathBuf>,
        /// Seconds after which the guest is killed.
        #[arg(long, default_value_t = 600)]
        limit: u64,
        /// Leave the disks and the console's log for a look.
        #[arg(long)]
        keep: bool,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        line: Vec<String>,
    },
    /// Cut a guest's power in the middle of the engine's operations, and look at its disks after each boot.
    PowerCuts {
        /// How often in all.
        #[arg(long, default_value_t = 52)]
        cuts: usize,
        /// Which moments.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// The engine's and the command's tests on kernels of guests, as many at a time as there are processors.
    Suite {
        /// Only tests whose `program::name` has this in it.
        #[arg(default_value = "")]
        filter: String,
        /// On this machine's own kernel, which needs root and device-mapper, over disks that are files.
        #[arg(long)]
        here: bool,
    },
}

#[derive(Subcommand)]
enum ClusterTask {
    /// Start a cluster and wait until its nodes are Ready.
    Up {
        /// How many nodes on this machine's kernel, 0 to 9.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// How many nodes more on kernels of their own, with empty disks /dev/ubda and /dev/ubdb: 9 nodes in all.
        #[arg(long, default_value_t = 0)]
        guests: u8,
        #[command(flatten)]
        name: Name,
        /// Install Tierce on it.
        #[arg(long)]
        install: bool,
        #[command(flatten)]
        build: Build,
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

#[derive(clap::Args)]
struct Build {
    /// Build Tierce's programs without optimisation, for work on them.
    #[arg(long)]
    dev: bool,
}

impl Build {
    fn profile(&self) -> Profile {
        if self.dev { Profile::Dev } else { Profile::Release }
    }
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

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Said before anything is built.
fn need_root(what: &str) -> Result<()> {
    ensure!(is_root(), "{what} needs root, for namespaces, mounts and loop devices: run this with sudo");
    Ok(())
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Tools { tool, print_dir } => {
            let folder = tools::ensure(tool.as_deref())?;
            if tool.is_none() && !print_dir {
                tools::build_references()?;
            }
            if print_dir {
                println!("{}", folder.display());
            }
            Ok(())
        }
        Task::Images(build) => {
            let tools = tools::ensure(None)?;
            for archive in images::basic(&tools)?.iter().chain(&ours::ensure(build.profile())?.archives) {
                println!("{}", archive.display());
            }
            Ok(())
        }
        Task::Install { name, build, set } => {
            let cluster = Cluster::find(&name.name)?;
            let images = ours::ensure(build.profile())?;
            cluster.load(&images.archives)?;
            install::install(&cluster, &images, &set.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Task::Demo { disks, build } => {
            need_root("the demo")?;
            if disks { demo::run_disks(build.profile()) } else { demo::run(build.profile()) }
        }
        Task::Bench { task: Some(BenchTask::Compare { before, after }), .. } => {
            bench::compare(&before, &after)
        }
        Task::Bench { only, of, save, build, task: None } => {
            bench::run(&only, save.as_deref(), build.profile(), of.as_deref())
        }
        Task::RunBench { only, stand, audit_log } => {
            bench::run_confined(&only, stand.as_deref(), audit_log.as_deref())
        }
        Task::Programs => programs::make(),
        Task::Unit => unit::run(),
        Task::Sanity { over, every } => sanity::run(over, every),
        Task::RunSanity { folder, every } => sanity::run_confined(&folder, every),
        Task::Suite { filter, build, guests, keep, on } => match on {
            Some(name) => suite::run_on_running(&name, build.profile(), &filter),
            None if !is_root() => {
                println!(
                    "skipped: the suite on a real Kubernetes: namespaces, mounts and loop devices need root"
                );
                println!("0 passed, 0 failed, 0 skipped");
                Ok(())
            }
            None => {
                let nodes = if guests { suite::Nodes::Guests } else { suite::Nodes::Ordinary };
                suite::run(nodes, build.profile(), &filter, keep)
            }
        },
        Task::Lab(task) => run_lab_task(task),
        Task::Cluster(task) => run_cluster_task(task),
        Task::RunCluster { state } => cluster::run_cluster(&state),
        Task::SweepCluster { name } => cluster::sweep(&name),
        Task::RunNode { state, name } => cluster::run_node(&state, &name),
        Task::RunGuest { state, name } => cluster::run_guest(&state, &name),
        Task::RunNodeInGuest { state, name } => cluster::run_node_in_guest(&state, &name),
        Task::AskGuest { state, name, line } => match cluster::ask_guest(&state, &name, &line)? {
            0 => Ok(()),
            status => std::process::exit(status.into()),
        },
    }
}

fn run_lab_task(task: LabTask) -> Result<()> {
    match task {
        LabTask::Suite { filter, here } => {
            lab::run_suite(&filter, if here { lab::Kernel::Here } else { lab::Kernel::Guests })
        }
        LabTask::PowerCuts { cuts, seed } => lab::run_power_cuts(cuts, seed),
        LabTask::Run { disks, disk_gib, memory, cpu, modules, see, limit, keep, line } => {
            let mut hardware = Hardware { memory_mib: memory, processor: cpu, ..Hardware::named("job") };
            hardware.modules.extend(modules);
            hardware.visible.extend(see);
            let disks = vec![u64::from(disk_gib) << 30; disks.into()];
            let job = lab::Job { hardware, disks, keep, limit: Duration::from_secs(limit) };
            match lab::run(job, &line)? {
                0 => Ok(()),
                // The command's own status; it has said what it had to say.
                status => std::process::exit(status.into()),
            }
        }
    }
}

fn run_cluster_task(task: ClusterTask) -> Result<()> {
    match task {
        ClusterTask::Up { nodes, guests, name, install, build } => {
            need_root("a cluster")?;
            let tools = tools::ensure(None)?;
            let mut archives = images::basic(&tools)?;
            let ours = if install { Some(ours::ensure(build.profile())?) } else { None };
            archives.extend(ours.iter().flat_map(|ours| ours.archives.clone()));
            let started = Instant::now();
            let cluster = Cluster::up(
                &name.name,
                Size { ordinary: nodes, guests },
                archives,
                tools,
                Lifetime::UntilDown,
            )?;
            println!("cluster {} is Ready after {:.1} s", name.name, started.elapsed().as_secs_f64());
            if let Some(images) = ours {
                install::install(&cluster, &images, &[])?;
                println!("Tierce is installed after {:.1} s", started.elapsed().as_secs_f64());
            }
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
