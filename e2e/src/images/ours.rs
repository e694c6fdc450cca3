//! Our own images, built from their Containerfiles with buildah: no daemon and no registry.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{archive, base};
use crate::cargo::workspace;
use crate::{cache, cargo, command};

/// Which programs go into the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// As they are shipped.
    Release,
    /// Built faster, for work on Tierce itself.
    Dev,
}

/// Our images as archives, all under one tag that changes with their contents.
#[derive(Clone, Debug)]
pub struct Ours {
    /// The files to import.
    pub archives: Vec<PathBuf>,
    /// The tag to install.
    pub tag: String,
    /// The chart that installs them.
    pub chart: PathBuf,
    /// How the programs were built.
    pub profile: Profile,
}

/// An image: the program's package and name, and its Containerfile.
pub(super) const IMAGES: [(&str, &str); 2] =
    [("tierce-controller", "controller.Containerfile"), ("tierce-csi", "csi.Containerfile")];

/// The packages whose programs the tests start.
const TESTED: [&str; 3] = ["tierce-controller", "tierce-csi", "tierce"];

/// Builds the programs and their images; a second call with unchanged sources only asks cargo.
pub fn ensure(profile: Profile) -> Result<Ours> {
    let (sources, chart) = (workspace().join("images"), workspace().join("charts/tierce"));
    pack("", profile, &programs(profile)?, &sources, chart)
}

/// The images of these programs, in the order of [`IMAGES`], as archives whose names begin so.
pub(super) fn pack(
    called: &str,
    profile: Profile,
    programs: &[PathBuf],
    sources: &Path,
    chart: PathBuf,
) -> Result<Ours> {
    let (base, base_key) = base::ensure()?;
    let mut key = cache::Key::default().with(&base_key);
    for ((_, file), program) in IMAGES.iter().zip(programs) {
        key = key.with_file(program)?.with_file(&sources.join(file))?;
    }
    let tag = format!("e2e-{}", key.finish());
    let mut archives = Vec::new();
    for ((name, file), program) in IMAGES.iter().zip(programs) {
        let reference = format!("ghcr.io/tierce-storage/{name}:{tag}");
        let key = cache::Key::default().with(&reference);
        archives.push(archive(&format!("{called}{name}"), key, |place| {
            build(&base, &base_key, &sources.join(file), program, &reference, place)
        })?);
    }
    Ok(Ours { archives, tag, chart, profile })
}

/// Builds both programs and returns their paths, in the order of [`IMAGES`].
pub fn programs(profile: Profile) -> Result<Vec<PathBuf>> {
    build_programs(profile, &IMAGES.map(|(name, _)| name))
}

/// Builds the program of the package of that name and returns its path.
pub fn program(profile: Profile, name: &str) -> Result<PathBuf> {
    build_programs(profile, &[name])?.pop().with_context(|| format!("cargo built no program {name}"))
}

/// What tells Cargo to build the programs of these packages.
pub(super) fn build_arguments<'a>(profile: Profile, names: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["build"];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    for name in names {
        arguments.extend(["--package", name]);
    }
    arguments
}

/// Builds the programs of these packages and returns their paths, in this order.
fn build_programs(profile: Profile, names: &[&str]) -> Result<Vec<PathBuf>> {
    // The tests want all of them, and each choice of packages has features of its own, with which all below it would be built once more.
    let packages = if profile == Profile::Dev { &TESTED[..] } else { names };
    let built = cargo::build(&build_arguments(profile, packages))?;
    let program = |name: &&str| {
        let found = built.iter().find(|program| program.name == **name);
        found.map(|program| program.file.clone()).with_context(|| format!("cargo built no program {name}"))
    };
    names.iter().map(program).collect()
}

fn build(
    base: &Path,
    base_key: &str,
    containerfile: &Path,
    program: &Path,
    reference: &str,
    place: &Path,
) -> Result<()> {
    let base_image = format!("localhost/tierce-base:{base_key}");
    let context = tempfile::tempdir()?;
    if command::run(buildah()?.args(["inspect", "--type", "image", &base_image])).is_err() {
        let file = context.path().join("Containerfile");
        std::fs::write(&file, "FROM scratch\nADD base.tar /\n")?;
        std::fs::copy(base, context.path().join("base.tar"))?;
        command::run(
            buildah()?.args(["build", "--tag", &base_image, "--file"]).arg(&file).arg(context.path()),
        )?;
        std::fs::remove_file(context.path().join("base.tar"))?;
    }
    std::fs::copy(program, context.path().join(program.file_name().context("a program has a name")?))?;
    command::run(
        buildah()?
            .args(["build", "--layers=false", "--pull=never", "--tag", reference])
            .arg(format!("--build-arg=BASE={base_image}"))
            .arg("--file")
            .arg(containerfile)
            .arg(context.path()),
    )?;
    let archive = format!("docker-archive:{}:{reference}", place.display());
    command::run(buildah()?.args(["push", "--quiet", reference, &archive]))?;
    command::run(buildah()?.args(["rmi", reference])).map(drop)
}

fn buildah() -> Result<Command> {
    let home = cache::folder()?.join("buildah");
    let mut command = Command::new("buildah");
    // Neither an overlay nor namespaces are needed, so it runs inside containers and on any filesystem too.
    command.envs([("BUILDAH_ISOLATION", "chroot"), ("STORAGE_DRIVER", "vfs")]);
    command.arg("--root").arg(home.join("storage")).arg("--runroot").arg(home.join("run"));
    Ok(command)
}
