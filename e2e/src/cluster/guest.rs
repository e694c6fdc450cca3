//! A node on a kernel of its own: a guest of the disk lab, plugged into the cluster's bridge. Killing this process is
//! a power cut; the supervisor boots the same disks again.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::process::PidfdFlags;

use super::guest_commands::Commands;
use super::layout::{Node, Spec, State};
use super::system_disk;
use crate::lab::{self, Guest, Hardware};

/// What containerd, the kubelet and a pod or ten need in a guest; Kubernetes itself uses 283 MB of it.
const MEMORY_MIB: u32 = 2048;
/// Disks for Tierce, as they come from the factory: `/dev/ubda`, `/dev/ubdb`.
const DISKS: [&str; 2] = ["a.img", "b.img"];
const DISK: u64 = 16 << 30;
/// A start that waits for nothing.
const START_LIMIT: Duration = Duration::from_mins(1);

/// Boots the guest and serves commands for it until it ends.
pub fn run(state: &Path, name: &str) -> Result<()> {
    let state = State::at(state);
    let spec = state.spec()?;
    let node = Node::parse(name)?;
    let folder = state.node(node);
    let mut disks = Vec::new();
    for disk in DISKS {
        disks.push(folder.join(disk));
        make_disk(&folder.join(disk))?;
    }
    disks.push(folder.join("system.img"));
    system_disk::make_disk(&folder.join("system.img"), spec.system_disk.as_deref())?;
    let commands = Commands::listen(&state.guest_socket(node))?;
    let mut guest = Guest::within(hardware(&state, &spec, node), disks, folder)?;
    guest.power_on()?;
    let line: Vec<String> = state.node_in_guest_line(node).iter().map(|word| lab::quoted(word)).collect();
    let log = state.log(&format!("{name}-in-guest"));
    let start =
        format!("setsid {} </dev/null >>{} 2>&1 &", line.join(" "), lab::quoted(&log.to_string_lossy()));
    guest.run(&start, START_LIMIT)?.success()?;
    let end = rustix::process::pidfd_open(guest.process().context("it runs")?, PidfdFlags::empty())?;
    loop {
        let mut ready = [PollFd::new(&commands, PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
        match rustix::event::poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        if !ready[1].revents().is_empty() {
            bail!("guest {name} ended by itself; the end of its console:\n{}", guest.console_tail());
        }
        // One that went wrong is the caller's concern: it got no answer.
        if let Err(error) = commands.answer(&mut guest) {
            eprintln!("a command for {name}: {error:#}");
        }
    }
}

fn hardware(state: &State, spec: &Spec, node: Node) -> Hardware {
    let mut hardware = Hardware::named(&node.name());
    hardware.memory_mib = MEMORY_MIB;
    let images = spec.images.iter().filter_map(|image| image.parent());
    hardware.visible = images
        .chain([spec.tools.as_path()])
        .filter(|folder| lab::is_hidden(folder))
        .map(Path::to_owned)
        .collect();
    hardware.shared = [state.path().join("logs")].into();
    // A fixed address: others know it longer than a boot takes.
    hardware.arguments = [format!(
        "vec0:transport=tap,ifname=port{number},depth=128,gro=1,mac=fe:fd:00:00:00:{number:02x}",
        number = node.0
    )]
    .into();
    hardware
}

/// Makes a disk; one that is there is left as it is.
fn make_disk(disk: &Path) -> Result<()> {
    crate::cache::once(disk, |temporary| Ok(std::fs::File::create(temporary)?.set_len(DISK)?))
}
