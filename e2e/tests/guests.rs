//! Guests of the disk lab: jobs, disks, power cuts, and what remains on the host. No root is needed.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tierce_e2e::lab::{self, Guest, Hardware, Said};

const LIMIT: Duration = Duration::from_mins(1);

/// False, with the reason printed, where guests can't run.
fn can_run(test: &str) -> bool {
    let missing = lab::missing();
    if !missing.is_empty() {
        eprintln!("skipped: {test}: missing on this machine: {}", missing.join(", "));
    }
    missing.is_empty()
}

fn guest(name: &str) -> Guest {
    let mut guest = Guest::new(Hardware::named(name), &[1 << 30]).unwrap();
    guest.power_on().unwrap();
    guest
}

#[test]
fn a_jobs_output_and_exit_status_come_back_and_the_hosts_files_stay_as_they_are() {
    if !can_run("a_jobs_output_and_exit_status_come_back") {
        return;
    }
    let mut guest = guest("jobs");
    let job =
        "echo to stdout; echo to stderr >&2; touch /etc/tierce-was-here; ls /etc/tierce-was-here; exit 9";
    let outcome = guest.run(job, LIMIT).unwrap();
    assert_eq!(
        (outcome.status, outcome.output.as_str()),
        (9, "to stdout\nto stderr\n/etc/tierce-was-here\n")
    );
    assert!(!Path::new("/etc/tierce-was-here").exists());
    // The next one finds the same guest.
    let outcome = guest.run("ls /etc/tierce-was-here && hostname", LIMIT).unwrap();
    assert_eq!(outcome.success().unwrap(), "/etc/tierce-was-here\njobs\n");
    let folder = guest.folder().to_owned();
    guest.run("echo shared > $lab/file", LIMIT).unwrap().success().unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "shared\n");
    guest.power_off().unwrap();
    drop(guest);
    assert!(!folder.exists(), "the folder stayed behind");
}

#[test]
fn what_was_synced_before_a_power_cut_is_there_after_it() {
    if !can_run("what_was_synced_before_a_power_cut_is_there_after_it") {
        return;
    }
    let mut guest = guest("power");
    let thin = "vgcreate -q vg /dev/ubda && lvcreate -q -y --type thin-pool -L 512M -n pool vg && \
                lvcreate -q -y -V 1G -T vg/pool -n v && mkfs.ext4 -q /dev/vg/v";
    guest.run(thin, LIMIT).unwrap().success().unwrap();
    guest
        .start(
            "mount /dev/vg/v /mnt && for ((i = 0; ; i++)); do \
             echo $i >/mnt/new && sync /mnt/new && mv /mnt/new /mnt/count && sync -f /mnt && echo synced $i; done",
        )
        .unwrap();
    let mut synced = 0;
    while synced < 20 {
        match guest.listen(LIMIT).unwrap() {
            Said::Line(line) => {
                if let Some(number) = line.strip_prefix("synced ") {
                    synced = number.parse().unwrap();
                }
            }
            Said::Ended(status) => panic!("the writer ended with {status}"),
        }
    }
    guest.power_cut().unwrap();
    // On a disk that a process of the old guest held it would not start.
    guest.power_on().unwrap();
    let look = guest.run("vgchange -q -ay vg && mount /dev/vg/v /mnt && cat /mnt/count", LIMIT).unwrap();
    let output = look.success().unwrap();
    let counted: u32 = output.lines().last().unwrap().parse().unwrap();
    assert!(counted >= synced, "{counted} after {synced} was synced");
}

#[test]
fn a_killed_harness_takes_its_guest_and_its_folder_with_it() {
    if !can_run("a_killed_harness_takes_its_guest_and_its_folder_with_it") {
        return;
    }
    let mut harness = Command::new(env!("CARGO_BIN_EXE_tierce-e2e"))
        .args(["lab", "run", "--", "bash", "-c", "echo $TIERCE_LAB_FOLDER; sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = harness.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
    let folder = PathBuf::from(line.trim());
    assert!(folder.join("ubda.img").exists(), "{line}");
    harness.kill().unwrap();
    harness.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while folder.exists() || runs_in(&folder) {
        assert!(Instant::now() < deadline, "still there after the harness: {}", folder.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_guest_whose_kernel_panics_or_whose_job_hangs_is_an_error_and_no_hang() {
    if !can_run("a_guest_whose_kernel_panics_or_whose_job_hangs_is_an_error_and_no_hang") {
        return;
    }
    let mut guest = guest("trouble");
    let error = guest.run("echo c >/proc/sysrq-trigger", LIMIT).unwrap_err().to_string();
    assert!(error.contains("died") && error.contains("panic"), "{error}");
    guest.power_on().unwrap();
    let error = guest.run("sleep 1000", Duration::from_millis(200)).unwrap_err().to_string();
    assert!(error.contains("did not end its job in time"), "{error}");
    let error = guest.run("true", LIMIT).unwrap_err().to_string();
    assert!(error.contains("switched off"), "{error}");
}

/// True when a process has the folder in its command line.
fn runs_in(folder: &Path) -> bool {
    let name = folder.to_string_lossy().into_owned();
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&name)
    })
}
