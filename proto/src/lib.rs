//! Wire types of Tierce: CSI 1.13 and the kubelet's plugin registration, with tonic clients and servers.
//!
//! The sources are in `vendor/`, as the [Container Storage Interface](https://github.com/container-storage-interface/spec)
//! and Kubernetes publish them; a test compares them with the published files.
//!
//! - Maps are `BTreeMap`s, so that two equal messages print and encode alike.
//! - RPCs that a server does not implement answer `UNIMPLEMENTED`, as CSI wants it for what is not claimed.
//! - `Debug` prints `<redacted>` for fields that CSI marks as secret, and for service account tokens.

mod redact;

/// Messages, clients and servers of `csi.v1`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic)]
pub mod csi {
    tonic::include_proto!("csi.v1");
    include!(concat!(env!("OUT_DIR"), "/debug.rs"));
}

/// How the kubelet gets to know a plugin: a socket in its `plugins_registry` directory serves `Registration`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic)]
pub mod pluginregistration {
    tonic::include_proto!("pluginregistration");
}

/// An encoded `google.protobuf.FileDescriptorSet` of all of the above and their imports, for reflection and tests.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
