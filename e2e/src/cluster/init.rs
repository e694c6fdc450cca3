//! A small init: PID 1 of a process namespace. It keeps services running and reaps what is left to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

/// How often the loop looks for ended children and for switches.
const TICK: Duration = Duration::from_millis(50);
/// The pause before a service that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A program to keep running: its command line, its log, and when it should not run.
pub(super) struct Service {
    /// Its name in messages.
    pub name: String,
    /// The program and its arguments.
    pub line: Vec<String>,
    /// Where stdout and stderr are appended.
    pub log: PathBuf,
    /// While this file exists the service is killed and stays down.
    pub off_switch: Option<PathBuf>,
}

enum Condition {
    Running(Pid),
    Due(Instant),
    Off,
}

/// The services of this namespace.
#[derive(Default)]
pub(super) struct Init {
    services: Vec<(Service, Condition)>,
}

impl Init {
    /// Starts a service now and keeps it running from then on.
    pub(super) fn start(&mut self, service: Service) -> Result<()> {
        let pid = spawn(&service)?;
        self.services.push((service, Condition::Running(pid)));
        Ok(())
    }

    /// Never returns: the namespace ends when its PID 1 is killed.
    pub(super) fn run(mut self) -> Result<()> {
        loop {
            self.reap();
            for (service, condition) in &mut self.services {
                let off = service.off_switch.as_ref().is_some_and(|file| file.exists());
                *condition = match std::mem::replace(condition, Condition::Off) {
                    Condition::Running(pid) if off => {
                        note(service, "switched off");
                        rustix::process::kill_process(pid, Signal::KILL).ok();
                        Condition::Running(pid)
                    }
                    Condition::Off if !off => Condition::Due(Instant::now()),
                    Condition::Due(when) if !off && when <= Instant::now() => {
                        Condition::Running(spawn(service)?)
                    }
                    Condition::Due(_) if off => Condition::Off,
                    other => other,
                };
            }
            std::thread::sleep(TICK);
        }
    }

    /// Collects every ended child, ours or orphaned.
    fn reap(&mut self) {
        let mut ended = BTreeMap::new();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            ended.insert(pid.as_raw_nonzero(), status);
        }
        for (service, condition) in &mut self.services {
            let Condition::Running(pid) = condition else { continue };
            if let Some(status) = ended.get(&pid.as_raw_nonzero()) {
                note(service, &ending(*status));
                *condition = Condition::Due(Instant::now() + RESTART_PAUSE);
            }
        }
    }
}

fn spawn(service: &Service) -> Result<Pid> {
    let (program, arguments) = service.line.split_first().context("a service has a program")?;
    let log = File::options().create(true).append(true).open(&service.log)?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("can't start {program} for {}", service.name))?;
    // Not waited for here: `reap` collects every child of this PID 1.
    let pid = i32::try_from(child.id()).context("a process id is a positive i32")?;
    Pid::from_raw(pid).context("a process id is not zero")
}

fn ending(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

/// Says what happened in the service's own log, where somebody would look.
fn note(service: &Service, what: &str) {
    if let Ok(mut log) = File::options().append(true).open(&service.log) {
        writeln!(log, "--- {} {what}", service.name).ok();
    }
}
