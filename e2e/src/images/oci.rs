//! Writes container images as OCI archives by hand: a tar of JSON files and layers that containerd imports.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What a container made from the image runs.
#[derive(Default)]
pub struct Config<'a> {
    /// The program and its first arguments.
    pub entrypoint: Vec<&'a str>,
    /// `PATH=…` and the like.
    pub environment: Vec<&'a str>,
}

/// The files of one layer.
pub struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    /// A layer without files.
    pub fn empty() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds a program under a path without a leading slash.
    pub fn program(mut self, path: &str, source: &Path) -> Result<Self> {
        let bytes = std::fs::read(source).with_context(|| format!("can't read {}", source.display()))?;
        let mut header = header(0o755);
        header.set_size(u64::try_from(bytes.len())?);
        self.0.append_data(&mut header, path, bytes.as_slice())?;
        Ok(self)
    }

    /// Adds a symbolic link.
    pub fn link(mut self, path: &str, target: &str) -> Result<Self> {
        let mut header = header(0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        self.0.append_link(&mut header, path, target)?;
        Ok(self)
    }

    /// Adds an empty folder.
    pub fn folder(mut self, path: &str, mode: u32) -> Result<Self> {
        let mut header = header(mode);
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        self.0.append_data(&mut header, path, std::io::empty())?;
        Ok(self)
    }

    /// The layer as a tar.
    pub fn finish(self) -> Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}

/// Root's file of a fixed date: the same sources give the same image.
fn header(mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Writes an archive of one image with one uncompressed layer.
pub fn write(file: &Path, name: &str, config: &Config<'_>, layer: &[u8]) -> Result<()> {
    let configuration = json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Entrypoint": config.entrypoint, "Env": config.environment},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer))]},
    });
    let configuration = serde_json::to_vec(&configuration)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &configuration),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    let manifest = serde_json::to_vec(&manifest)?;
    let mut described = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    described["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [described]}))?;

    let mut archive = tar::Builder::new(File::create(file)?);
    let mut add = |path: String, bytes: &[u8]| -> Result<()> {
        let mut header = header(0o644);
        header.set_size(u64::try_from(bytes.len())?);
        Ok(archive.append_data(&mut header, path, bytes)?)
    };
    add("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json".to_owned(), &index)?;
    for blob in [configuration.as_slice(), layer, &manifest] {
        add(format!("blobs/sha256/{}", sha256(blob)), blob)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
}

fn sha256(bytes: &[u8]) -> String {
    crate::cache::hex(&Sha256::digest(bytes))
}

/// The name that image indexes use for this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
