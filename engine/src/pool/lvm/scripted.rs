//! A volume group as its commands tell it, for tests: no device-mapper, no LVM.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use uuid::Uuid;

use super::{LvmPool, call::Lvm, notes::AllNotes, tags};
use crate::{
    CommandError, CommandOutput, Filesystem, Program, Runner, VolumeMode,
    pool::{Backend, LvmKind, examples, record::Record},
};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const EXTENT: u64 = 4 * MIB;

type Answer = dyn Fn(&[String], &mut Told) -> Result<(), CommandError> + Send + Sync;

/// A group that answers a report with what it is told to have, and every change as a test says.
pub(crate) struct Group {
    pub(crate) told: Mutex<Told>,
    answer: Box<Answer>,
}

/// What the group has.
#[derive(Default)]
pub(crate) struct Told {
    /// Names and sizes in bytes.
    pub(crate) volumes: Vec<(String, u64)>,
    pub(crate) free: u64,
    pub(crate) metadata_free: u64,
    /// Every command, with its arguments.
    pub(crate) commands: Vec<String>,
}

impl Group {
    /// A thick pool in such a group.
    pub(crate) fn pool(
        told: Told,
        answer: impl Fn(&[String], &mut Told) -> Result<(), CommandError> + Send + Sync + 'static,
    ) -> (Arc<Self>, LvmPool) {
        let group = Arc::new(Self { told: Mutex::new(told), answer: Box::new(answer) });
        let id = Uuid::from_u128(7);
        let config = examples::config("p", backend());
        let pool = LvmPool {
            config,
            id,
            group: "vg".to_owned(),
            thin_pool: None,
            extends: false,
            lvm: Lvm::new(Arc::clone(&group) as Arc<dyn Runner>, &[]),
            devices: Vec::new(),
            sector_bytes: 512,
            notes: AllNotes::default().of(id),
            watch: OnceLock::new(),
        };
        pool.renew(&pool.turn()).unwrap();
        group.told().commands.clear();
        (group, pool)
    }

    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// How often such a command was run.
    pub(crate) fn count(&self, command: &str) -> usize {
        self.told().commands.iter().filter(|line| line.split(' ').next() == Some(command)).count()
    }
}

impl Runner for Group {
    fn run(&self, program: &Program) -> Result<CommandOutput, CommandError> {
        // The command and its arguments, without the configuration between them.
        let mut arguments: Vec<String> =
            program.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        arguments.drain(1..3);
        let mut told = self.told();
        told.commands.push(arguments.join(" "));
        let stdout = if arguments[0] == "fullreport" { report(&told) } else { String::new() };
        (self.answer)(&arguments, &mut told)?;
        if let [command, .., from, to] = arguments.as_slice()
            && command == "lvrename"
        {
            told.volumes
                .iter_mut()
                .filter(|(name, _)| name == from)
                .for_each(|(name, _)| name.clone_from(to));
        }
        Ok(CommandOutput { code: 0, stdout })
    }
}

fn report(told: &Told) -> String {
    let tag = tags::of_pool(Uuid::from_u128(7));
    let volume = |(name, size): &(String, u64)| {
        serde_json::json!({
            "lv_name": name, "lv_uuid": "u".repeat(32), "lv_attr": "-wi-a-----", "lv_size": size.to_string(), "lv_tags": tag,
            "lv_layout": "linear", "pool_lv": ""
        })
    };
    let taken: u64 = told.volumes.iter().map(|(_, size)| size).sum();
    let report = serde_json::json!({"report": [{
        "vg": [{
            "vg_name": "vg", "vg_uuid": "g".repeat(32), "vg_size": (taken + told.free).to_string(), "vg_free": told.free.to_string(),
            "vg_extent_size": EXTENT.to_string(), "vg_missing_pv_count": "0", "vg_mda_free": told.metadata_free.to_string()
        }],
        "pv": [],
        "lv": told.volumes.iter().map(volume).collect::<Vec<_>>(),
        "seg": []
    }]});
    report.to_string()
}

/// LVM's refusal in these words.
pub(crate) fn refusal(words: &str) -> CommandError {
    CommandError::Failed {
        line: "lvm".to_owned(),
        status: "exit status: 5".to_owned(),
        code: Some(5),
        stderr: words.to_owned(),
        stdout: String::new(),
    }
}

/// The record of a filesystem of that size.
pub(crate) fn record(id: &str, size_bytes: u64) -> Record {
    examples::record(id, VolumeMode::Filesystem(Filesystem::Ext4), size_bytes)
}

/// Whatever devices the thick group `vg` is on.
pub(crate) fn backend() -> Backend {
    Backend::Lvm { volume_group: "vg".to_owned(), kind: LvmKind::Thick, devices: Vec::new() }
}
