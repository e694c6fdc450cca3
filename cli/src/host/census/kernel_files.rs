//! Files that the kernel itself has open, which no process shows: those of loop devices, and those that it swaps to.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use tierce_engine::mountinfo;

/// Each with the name of what has it open. Where the kernel tells nothing of the kind there is none.
pub(super) fn all() -> Vec<(PathBuf, String)> {
    let swaps = fs::read("/proc/swaps").unwrap_or_default();
    [of_loop_devices(Path::new("/sys/block")), of_swaps(&swaps)].concat()
}

fn of_loop_devices(blocks: &Path) -> Vec<(PathBuf, String)> {
    let Ok(devices) = fs::read_dir(blocks) else { return Vec::new() };
    let opened = devices.flatten().filter_map(|device| {
        let mut path = fs::read(device.path().join("loop/backing_file")).ok()?;
        path.pop_if(|last| *last == b'\n');
        let name = format!("loop device /dev/{}", device.file_name().to_string_lossy());
        Some((OsString::from_vec(path).into(), name))
    });
    opened.collect()
}

/// From the kernel's table of them, below its heading.
fn of_swaps(table: &[u8]) -> Vec<(PathBuf, String)> {
    let lines = table.split(|byte| *byte == b'\n').skip(1);
    let paths = lines.filter_map(|line| line.split(u8::is_ascii_whitespace).next());
    let absolute = paths.map(mountinfo::unescaped).filter(|path| path.starts_with(b"/"));
    let named = absolute.map(|path| {
        let path = PathBuf::from(OsString::from_vec(path));
        let name = format!("swap file {}", path.display());
        (path, name)
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_devices_with_a_file_are_found() {
        let blocks = tempfile::tempdir().unwrap();
        for (device, file) in [("loop3", Some("/v/local/a/im age\n")), ("loop4", None), ("vda", None)] {
            fs::create_dir_all(blocks.path().join(device).join("loop")).unwrap();
            if let Some(file) = file {
                fs::write(blocks.path().join(device).join("loop/backing_file"), file).unwrap();
            }
        }
        let found = of_loop_devices(blocks.path());
        assert_eq!(found, [(PathBuf::from("/v/local/a/im age"), "loop device /dev/loop3".to_owned())]);
        assert!(of_loop_devices(&blocks.path().join("none")).is_empty());
    }

    #[test]
    fn files_that_are_swapped_to_are_found() {
        let table = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
            /v/local/a/swap\\040file                 file\t\t1024\t\t0\t\t-2\n\
            /dev/vdb                                partition\t1024\t\t0\t\t-3\n";
        let found: Vec<PathBuf> = of_swaps(table).into_iter().map(|(path, _)| path).collect();
        assert_eq!(found, [Path::new("/v/local/a/swap file"), Path::new("/dev/vdb")]);
        assert!(of_swaps(b"").is_empty());
    }
}
