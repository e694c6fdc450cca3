//! What `Debug` shows instead of secrets. Used by the code that `build.rs` generates.

use std::collections::BTreeMap;
use std::fmt;

/// The key under which the kubelet puts tokens into the volume context when a `CSIDriver` object asks for
/// `tokenRequests` without `serviceAccountTokenInSecrets`. CSI does not mark that map as secret, so drivers
/// logged tokens (CVE-2023-2878, CVE-2024-3744).
const SERVICE_ACCOUNT_TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// Stands for a secret field. Even its keys and their number stay hidden.
pub(crate) struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A volume context without the tokens in it.
pub(crate) struct VolumeContext<'a>(pub(crate) &'a BTreeMap<String, String>);

impl fmt::Debug for VolumeContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (key, value) in self.0 {
            if key == SERVICE_ACCOUNT_TOKENS {
                map.entry(key, &Redacted);
            } else {
                map.entry(key, value);
            }
        }
        map.finish()
    }
}
