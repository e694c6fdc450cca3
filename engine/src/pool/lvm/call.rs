//! Calling LVM: with a configuration of our own, so that neither the host's `lvm.conf` nor what lies inside
//! our volumes matters.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    CommandError, CommandOutput, Program, Runner,
    command::Input,
    lasting::lasting,
    pool::lvm::{
        report::{self, Report},
        settings,
    },
};

/// End of patience for a report, and for a change: a large thin pool's metadata is checked when it is
/// activated.
const READ_LIMIT: Duration = Duration::from_mins(2);
const CHANGE_LIMIT: Duration = Duration::from_mins(30);

/// LVM's exit code for "could not do it"; what it could not do is told by its words.
const FAILED: i32 = 5;

/// The fill level, in percent, from which the kernel reports a thin pool: LVM gives it that mark when it
/// activates the pool.
pub(crate) const EXTEND_FROM_PERCENT: u64 = 70;

/// Prefixes of the kernel's names of devices that a pool never uses unless they are named: our own volumes
/// and what lies in them, images, network disks. Device-mapper devices that are disks (multipath) have to be
/// named.
const NO_DISKS: [&str; 8] = ["loop", "dm-", "drbd", "nbd", "rbd", "zram", "zd", "ram"];

/// LVM over the devices of one pool.
#[derive(Clone)]
pub(crate) struct Lvm {
    runner: Arc<dyn Runner>,
    config: String,
    udev: bool,
}

impl Lvm {
    /// `devices`: the only ones that are looked at; empty: every disk that can be one.
    pub(crate) fn new(runner: Arc<dyn Runner>, devices: &[PathBuf]) -> Self {
        let udev = udev_runs();
        Self { runner, config: config(devices, udev), udev }
    }

    /// A copy that looks at other devices.
    pub(crate) fn over(&self, devices: &[PathBuf]) -> Self {
        Self { config: config(devices, self.udev), ..self.clone() }
    }

    /// Asks LVM for all it knows about one volume group.
    pub(crate) fn report(&self, group: &str) -> Result<Report, CommandError> {
        let mut arguments: Vec<&str> = vec!["--reportformat", "json", "--units", "b", "--nosuffix"];
        for (part, columns) in report::COLUMNS {
            arguments.extend(["--configreport", part, "-o", columns]);
        }
        arguments.push(group);
        self.read("fullreport", &arguments, report::parse)
    }

    /// The devices of the groups of that name of which that holds, by their LVM ids without hyphens: whatever devices there are is looked at, and
    /// only that.
    pub(crate) fn devices_of(
        &self,
        group: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, CommandError> {
        let everywhere = Self { config: config_with("\"a|.*|\"", self.udev), ..self.clone() };
        let arguments = ["-qq", "--reportformat", "json", "-o", report::OWNERS_COLUMNS];
        everywhere.read("pvs", &arguments, |stdout| report::devices_of(stdout, group, is_it))
    }

    /// Devices that carry the LVM id of another device of the group.
    pub(crate) fn copied_devices(&self, group: &str) -> Result<Vec<String>, CommandError> {
        let arguments = ["-qq", "--all", "--reportformat", "json", "-o", report::COPIES_COLUMNS];
        self.read("pvs", &arguments, |stdout| report::copies(stdout, group))
    }

    /// Runs a command that only looks, and understands its answer.
    fn read<T>(
        &self,
        command: &str,
        arguments: &[&str],
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, CommandError> {
        let program = self.program(command, arguments, READ_LIMIT);
        let output = self.runner.run(&program)?;
        parse(&output.stdout).map_err(|reason| CommandError::Failed {
            line: program.line(),
            status: "exit status: 0".to_owned(),
            code: Some(output.code),
            stderr: reason,
            stdout: output.stdout.chars().take(2000).collect(),
        })
    }

    /// Runs a command that changes something.
    pub(crate) fn change(&self, command: &str, arguments: &[&str]) -> Result<CommandOutput, CommandError> {
        let program = self.program(command, arguments, CHANGE_LIMIT);
        tracing::debug!(command, ?arguments, "lvm");
        lasting(command, || self.runner.run(&program))
    }

    /// The signatures of filesystems, partition tables and the like that a device carries.
    pub(crate) fn signatures(&self, device: &Path) -> Result<Vec<String>, CommandError> {
        let program = Program {
            name: "wipefs",
            arguments: ["--no-act", "--noheadings", "--parsable", "--output", "TYPE,UUID,LABEL"]
                .iter()
                .map(OsString::from)
                .chain([device.into()])
                .collect(),
            input: Input::default(),
            good: &[0],
            limit: READ_LIMIT,
            environment: &[],
            outlives_us: false,
        };
        let output = self.runner.run(&program)?;
        let telling =
            output.stdout.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(telling.map(str::to_owned).collect())
    }

    fn program(&self, command: &str, arguments: &[&str], limit: Duration) -> Program {
        let first = [command, "--config", &self.config];
        Program {
            name: "lvm",
            arguments: first.iter().chain(arguments).map(OsString::from).collect(),
            input: Input::default(),
            good: &[0],
            limit,
            environment: settings::environment(self.udev),
            // LVM suspends devices while it works.
            outlives_us: true,
        }
    }
}

/// Whether LVM refused with these words.
pub(crate) fn said(error: &CommandError, words: &[&str]) -> bool {
    match error {
        CommandError::Failed { code: Some(FAILED), stderr, stdout, .. } => {
            words.iter().any(|words| stderr.contains(words) || stdout.contains(words))
        }
        _ => false,
    }
}

/// Whether LVM looked for a volume group of that name and did not find it.
pub(crate) fn no_such_group(error: &CommandError) -> bool {
    said(error, &["Volume group \"", "Volume group '"]) && said(error, &["not found"])
}

/// Whether the group has too little space.
pub(crate) fn no_space(error: &CommandError) -> bool {
    said(error, &["insufficient free space", "Insufficient free space", "Insufficient suitable"])
}

/// Whether LVM's description of the group would no longer fit into its metadata area.
pub(crate) fn metadata_full(error: &CommandError) -> bool {
    said(error, &["exceeds maximum metadata size", "metadata too large for"])
}

/// Whether nothing more is made in the thin pool, since its data or its metadata has reached
/// [`EXTEND_FROM_PERCENT`]. LVM does not say in this sentence which of the two.
pub(crate) fn over_threshold(error: &CommandError) -> bool {
    said(error, &["reached threshold", "above threshold"])
}

/// The words without the command line around them, for messages.
pub(crate) fn words(error: &CommandError) -> String {
    match error {
        CommandError::Failed { stderr, status, .. } => {
            let telling =
                stderr.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("backed up"));
            let text = telling.collect::<Vec<_>>().join(" ");
            if text.is_empty() { status.clone() } else { text }
        }
        other => other.to_string(),
    }
}

fn config(devices: &[PathBuf], udev: bool) -> String {
    config_with(&filter(devices), udev)
}

fn config_with(filter: &str, udev: bool) -> String {
    let udev = u8::from(udev);
    format!(
        "devices {{ use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source=\"none\" hints=\"none\" \
         scan_lvs=0 global_filter=[{filter}] }} \
         activation {{ udev_sync={udev} udev_rules={udev} verify_udev_operations=0 monitoring=0 \
         thin_pool_autoextend_threshold={EXTEND_FROM_PERCENT} }} \
         backup {{ backup=0 archive=0 }} \
         global {{ use_lvmpolld=0 use_lvmlockd=0 notify_dbus=0 thin_check_options=[\"-q\",\"--clear-needs-check-flag\"] }} \
         log {{ syslog=0 }}"
    )
}

fn filter(devices: &[PathBuf]) -> String {
    if devices.is_empty() {
        let rejected = NO_DISKS.iter().chain(&["mapper/"]).map(|start| format!("\"r|^/dev/{start}|\""));
        // No pattern that accepts: LVM takes a device when any of its names meets one, and udev gives each
        // device several names. A name that meets no pattern counts for nothing.
        return rejected.collect::<Vec<_>>().join(",");
    }
    let accepted: Vec<String> = devices.iter().map(|path| format!("\"a|^{}$|\",", pattern(path))).collect();
    format!("{}\"r|.*|\"", accepted.concat())
}

/// Whether a device is one that has to be named, by the kernel's name for it: `loop3`, `dm-0`, `nbd0p1`.
pub(crate) fn is_no_disk(kernel_name: &str) -> bool {
    NO_DISKS.iter().any(|start| {
        kernel_name.strip_prefix(start).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// A path as a regular expression.
fn pattern(path: &Path) -> String {
    path.to_string_lossy().replace('.', "[.]").replace('+', "[+]")
}

/// Whether a path can stand in LVM's filter.
pub(crate) fn can_be_named(path: &Path) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/_.:+@=-".contains(c);
    path.starts_with("/dev") && path.to_str().is_some_and(|text| text.chars().all(allowed))
}

/// Whether to let udev make the device nodes and wait for it. Its semaphores work in its own IPC namespace
/// only: in a container a wait for them would never end.
fn udev_runs() -> bool {
    /// `PROC_IPC_INIT_INO` of `linux/proc_ns.h`.
    const FIRST_IPC_NAMESPACE: &str = "ipc:[4026531839]";
    let here =
        fs::read_link("/proc/self/ns/ipc").is_ok_and(|target| target == Path::new(FIRST_IPC_NAMESPACE));
    here && Path::new("/run/udev/control").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32, stderr: &str) -> CommandError {
        CommandError::Failed {
            line: "lvm lvcreate".to_owned(),
            status: format!("exit status: {code}"),
            code: Some(code),
            stderr: stderr.to_owned(),
            stdout: String::new(),
        }
    }

    #[test]
    fn bug_21_only_the_pools_own_devices_are_looked_at() {
        let named = config(&["/dev/ubda".into(), "/dev/disk/by-id/nvme-a.b+c".into()], false);
        let filter = r#"global_filter=["a|^/dev/ubda$|","a|^/dev/disk/by-id/nvme-a[.]b[+]c$|","r|.*|"]"#;
        assert!(named.contains(filter), "{named}");
        let any = config(&[], false);
        assert!(any.contains(r#"["r|^/dev/loop|","r|^/dev/dm-|","#), "{any}");
        assert!(any.contains(r#""r|^/dev/mapper/|"]"#) && !any.contains("\"a|"), "{any}");
        for config in [named, any] {
            for setting in
                ["use_devicesfile=0", "scan_lvs=0", "archive=0", "backup=0", "udev_sync=0", "monitoring=0"]
            {
                assert!(config.contains(setting), "{setting}: {config}");
            }
        }
        assert!(config(&[], true).contains("udev_sync=1 udev_rules=1"));
        assert!(can_be_named(Path::new("/dev/disk/by-id/nvme-a.b+c")));
        for bad in ["/dev/a|b", "/dev/a\"b", "/dev/a b", "/etc/x", "/dev/a$"] {
            assert!(!can_be_named(Path::new(bad)), "{bad}");
        }
    }

    #[test]
    fn disks_are_told_from_what_has_to_be_named_by_the_kernels_name() {
        for disk in ["sda", "sda1", "nvme0n1p2", "vdb", "md127", "mmcblk0", "ubda", "ramses", "dm", "bcache0"]
        {
            assert!(!is_no_disk(disk), "{disk}");
        }
        for other in ["loop0", "loop12p1", "dm-0", "nbd3", "rbd0", "zram1", "drbd7", "zd16", "ram0"] {
            assert!(is_no_disk(other), "{other}");
        }
    }

    #[test]
    fn a_refusal_is_an_exit_code_and_words() {
        assert!(no_such_group(&failed(
            5,
            "  Volume group \"vg\" not found\n  Cannot process volume group vg"
        )));
        assert!(!no_such_group(&failed(3, "  Volume group \"vg\" not found")));
        assert!(!no_such_group(&failed(5, "  Failed to find logical volume \"vg/x\"")));
        assert!(no_space(&failed(
            5,
            "  Volume group \"vg\" has insufficient free space (1 extents): 25600 required."
        )));
        assert!(no_space(&failed(5, "  Insufficient free space: 2 extents needed, but only 1 available")));
        assert!(!no_space(&failed(5, "  Volume group \"vg\" not found")));
        let threshold =
            failed(5, "  Cannot create new thin volume, free space in thin pool vg/pool reached threshold.");
        assert!(over_threshold(&threshold) && !no_space(&threshold));
        let both = "  WARNING: This metadata update is NOT backed up.\n  Logical volume vg/v in use.\n";
        assert_eq!(words(&failed(5, both)), "Logical volume vg/v in use.");
        assert_eq!(words(&failed(5, "")), "exit status: 5");
    }
}
