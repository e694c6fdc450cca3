//! The interfaces in `vendor/` are those that were published, to the byte.
//!
//! The published files come from the Go module cache; where Go or the modules are not to be had, these tests say
//! `skipped` and pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of a module as one of our Go modules pins it, or why it is not to be had.
fn module_folder(tools: &str, module: &str) -> Result<PathBuf, String> {
    let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/tools").join(tools);
    let go = |arguments: &[&str]| {
        let output = Command::new("go")
            .args(arguments)
            .current_dir(&pins)
            .output()
            .map_err(|error| format!("can't start go: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    go(&["mod", "download", module])?;
    go(&["list", "-m", "-f", "{{.Dir}}", module]).map(PathBuf::from)
}

/// Compares a folder of `vendor/` with its module: the licence, and the file at `published`.
fn compare(vendored: &str, published: &str, module: Result<PathBuf, String>) {
    let folder = match module {
        Ok(folder) => folder,
        Err(reason) => {
            println!("skipped: comparison of {vendored} with the published {published}: {reason}");
            return;
        }
    };
    let vendored = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor").join(vendored);
    let name = Path::new(published).file_name().expect("a path of a file");
    for (ours, theirs) in [(Path::new(name), published), (Path::new("LICENSE"), "LICENSE")] {
        let [ours, theirs] = [vendored.join(ours), folder.join(theirs)];
        let read = |path: &Path| fs::read(path).expect("both have the file");
        assert!(read(&ours) == read(&theirs), "{} is not {}", ours.display(), theirs.display());
        println!("{} is as published", ours.display());
    }
}

#[test]
fn csi_is_the_published_specification() {
    compare("csi", "csi.proto", module_folder("spec", "github.com/container-storage-interface/spec"));
}

#[test]
fn plugin_registration_is_what_the_kubelet_publishes() {
    let file = "pkg/apis/pluginregistration/v1/api.proto";
    compare("pluginregistration", file, module_folder("kubernetes", "k8s.io/kubelet"));
}
