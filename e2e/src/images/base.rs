//! The base of our own images: a small Debian root with the filesystem tools, made from packages.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cache, command};

/// A shell for the Containerfile's checks, and what makes, checks and grows filesystems, logical volumes and encrypted ones, and
/// sees what a disk carries.
const PACKAGES: [&str; 8] = [
    "dash",
    "e2fsprogs",
    "xfsprogs",
    "btrfs-progs",
    "lvm2",
    "thin-provisioning-tools",
    "cryptsetup-bin",
    "util-linux",
];
/// Never used at run time and larger than the rest together.
const UNUSED: &str = r#"cd "$1" && rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/zoneinfo \
usr/share/python3 usr/lib/python3* usr/bin/python3* usr/lib/*/gconv"#;

/// The tar of the root, of this machine's own release, so that programs built here find their C library.
pub(super) fn ensure() -> Result<(PathBuf, String)> {
    let release = release(&std::fs::read_to_string("/etc/os-release")?).context(
        "the images are made from Debian or Ubuntu packages, and /etc/os-release names no release",
    )?;
    let key = cache::Key::default().with(&release).with(UNUSED).with(PACKAGES.join(",")).finish();
    let place = cache::folder()?.join("images/base").join(format!("{key}.tar"));
    cache::once(&place, |temporary| {
        eprintln!("making the base of the images from Debian packages …");
        command::run(
            Command::new("mmdebstrap")
                .args(["--variant=extract", "--format=tar", "--quiet"])
                .arg(format!("--include={}", PACKAGES.join(",")))
                .arg(format!("--extract-hook={UNUSED}"))
                .arg(&release)
                .arg(temporary),
        )
        .map(drop)
    })?;
    Ok((place, key))
}

/// `VERSION_CODENAME` of an os-release file.
fn release(text: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_with_or_without_quotes() {
        assert_eq!(release("ID=debian\nVERSION_CODENAME=bookworm\n").as_deref(), Some("bookworm"));
        assert_eq!(release("VERSION_CODENAME=\"noble\"").as_deref(), Some("noble"));
        assert_eq!(release("ID=arch"), None);
    }
}
