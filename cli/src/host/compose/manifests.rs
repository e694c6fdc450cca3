//! The same volumes as Kubernetes objects.

use serde_json::{Value, json};

use super::{Plan, plan::NamedVolume};

/// The `Volume` objects of a stack. `Err`: a volume can't be one; the text says which and what to write.
pub(in super::super) fn manifests(plan: &Plan, tier: &str) -> Result<Vec<Value>, String> {
    plan.volumes
        .iter()
        .filter(|volume| volume.name.is_some())
        .map(|volume| manifest(plan, volume, tier))
        .collect()
}

fn manifest(plan: &Plan, volume: &NamedVolume, tier: &str) -> Result<Value, String> {
    let name: String = volume.full.to_lowercase().replace(['_', '.'], "-");
    if name.len() > 63 || name.ends_with('-') {
        return Err(format!(
            "Volume '{}' can't have its name on a cluster: at most 63 letters, digits and '-', the last no '-'; give it another with 'name:'",
            volume.full
        ));
    }
    let Some(size) = volume.options.get("size") else {
        return Err(format!(
            "Volume '{}' has no size, which a cluster needs: write 'driver_opts: {{size: 10Gi}}' in the Compose file",
            volume.full
        ));
    };
    let mut spec = json!({"size": size, "tier": volume.options.get("tier").map_or(tier, String::as_str)});
    if let Some(filesystem) = volume.options.get("filesystem") {
        spec["filesystem"] = json!(filesystem);
    }
    Ok(json!({
        "apiVersion": "storage.tierce.dev/v1alpha1",
        "kind": "Volume",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": plan.stack}},
        "spec": spec,
    }))
}
