//! What a guest is made of.

use std::path::PathBuf;

/// What nearly every suite needs, in one go: each `modprobe` takes 20 to 150 ms, and the kernel starts one per name.
const MODULES: [&str; 5] = ["loop", "dm-thin-pool", "dm-snapshot", "dm-crypt", "dm-mirror"];

/// What a guest is made of, besides its disks.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// Its host name, 1 to 20 of a-z, 0-9 and `-`.
    pub name: String,
    /// Its memory. 256 is enough for LVM and LUKS.
    pub memory_mib: u32,
    /// The processor that it runs on; `None`: one that no other guest has.
    pub processor: Option<usize>,
    /// Folders of the host that its jobs must see and would not: those below `/tmp`, `/run` and `/mnt`.
    pub visible: Vec<PathBuf>,
    /// Folders of the host that it may write into.
    pub shared: Vec<PathBuf>,
    /// Kernel modules to load at boot.
    pub modules: Vec<String>,
    /// More arguments of its kernel.
    pub arguments: Vec<String>,
}

impl Hardware {
    /// 512 MiB, any processor, device-mapper.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            memory_mib: 512,
            processor: None,
            visible: Vec::new(),
            shared: Vec::new(),
            modules: MODULES.map(str::to_owned).into(),
            arguments: Vec::new(),
        }
    }
}
