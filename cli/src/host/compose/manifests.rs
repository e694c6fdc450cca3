//! The same volumes as Kubernetes objects.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Maker, NamedVolume, Plan};

/// The longest name of an object whose name becomes a label or a part of others.
const MOST: usize = 63;

/// Objects of a stack, and what became of the rest, in words.
#[derive(Debug, Default)]
pub(in super::super) struct Manifests {
    pub(in super::super) objects: Vec<Value>,
    pub(in super::super) notes: Vec<String>,
}

/// The `Volume` objects of a stack. `Err`: a volume can't be one; the text says which and what to write.
pub(in super::super) fn manifests(
    plan: &Plan,
    tier: &str,
    namespace: Option<&str>,
) -> Result<Manifests, String> {
    let mut made = Manifests::default();
    let ours: Vec<&NamedVolume> = plan.volumes.iter().filter(|volume| volume.name().is_some()).collect();
    let names = names(&ours.iter().map(|volume| volume.full.as_str()).collect());
    for volume in &plan.volumes {
        match &volume.maker {
            Maker::External => {
                made.notes.push(format!("Volume '{}' is external: no object is printed for it", volume.full));
            }
            Maker::Engine(what) => made.notes.push(format!(
                "Volume '{}' is none of Tierce ({what}): no object is printed for it",
                volume.full
            )),
            Maker::Tierce(_) => {
                // Several keys may name one volume.
                let first = ours
                    .iter()
                    .find(|first| first.full == volume.full)
                    .filter(|first| first.key != volume.key);
                if let Some(first) = first {
                    let asked = |volume: &NamedVolume| {
                        (volume.asked.clone(), volume.labels.iter().cloned().collect::<BTreeSet<_>>())
                    };
                    if asked(first) == asked(volume) {
                        continue;
                    }
                    return Err(format!(
                        "'{}' and '{}' are both called '{}', and ask for different things",
                        first.key, volume.key, volume.full
                    ));
                }
                let name = names.get(volume.full.as_str()).map_or(volume.full.as_str(), String::as_str);
                if name != volume.full {
                    made.notes.push(format!("Volume '{}' becomes {name}", volume.full));
                }
                let mut object = manifest(plan, volume, name, tier, &mut made.notes)?;
                if let Some(namespace) = namespace {
                    object["metadata"]["namespace"] = json!(namespace);
                }
                made.objects.push(object);
            }
        }
    }
    Ok(made)
}

fn manifest(
    plan: &Plan,
    volume: &NamedVolume,
    name: &str,
    tier: &str,
    notes: &mut Vec<String>,
) -> Result<Value, String> {
    let (full, asked) = (&volume.full, &volume.asked);
    let Some(size) = asked.get("size") else {
        return Err(format!(
            "Volume '{full}' has no size, which a cluster needs: write 'driver_opts: {{size: 10Gi}}' in the Compose file"
        ));
    };
    if asked.get("key-file").is_some() {
        return Err(format!(
            "Volume '{full}' is encrypted with a file of this host: on a cluster the tier decides that; take 'key-file' out"
        ));
    }
    for option in ["pool", "uid", "gid", "mode"].into_iter().filter(|option| asked.get(option).is_some()) {
        notes.push(format!("Volume '{full}': '{option}' is of a host, and is left out"));
    }
    let tier = match asked.get("tier") {
        Some(own) => self::tier(own).map_err(|reason| format!("Volume '{full}': {reason}"))?,
        None => tier,
    };
    let mut spec = json!({"size": size, "tier": tier});
    if let Some(filesystem) = asked.get("filesystem") {
        spec["filesystem"] = json!(filesystem);
    }
    let mut labels = BTreeMap::new();
    for label in volume.labels.iter().cloned().chain(asked.labels()) {
        let (key, value) = label.split_once('=').unwrap_or((&label, ""));
        if is_label_key(key) && is_label_value(value) {
            labels.insert(key.to_owned(), value.to_owned());
        } else {
            notes
                .push(format!("Volume '{full}': label '{label}' can't be one on a cluster, and is left out"));
        }
    }
    labels.insert("app.kubernetes.io/part-of".to_owned(), part_of(&plan.stack));
    Ok(json!({
        "apiVersion": "storage.tierce.dev/v1alpha1",
        "kind": "Volume",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }))
}

/// The text, if it can name a tier (`Volume.spec.tier`).
pub(in super::super) fn tier(text: &str) -> Result<&str, String> {
    label_of_domain(text, "a tier", 40)
}

/// The text, if it can name a namespace.
pub(in super::super) fn namespace(text: &str) -> Result<&str, String> {
    label_of_domain(text, "a namespace", MOST)
}

fn label_of_domain<'a>(text: &'a str, what: &str, most: usize) -> Result<&'a str, String> {
    if text.len() <= most && is_part_of_domain(text) {
        return Ok(text);
    }
    let shown: String = text.escape_debug().take(80).collect();
    Err(format!(
        "'{shown}' can't name {what}: 1 to {most} lower-case letters, digits and '-', with neither end a '-'"
    ))
}

/// A name for each: letters made small and `_` and `.` to `-`. Where that is too long, or two would be one, each gets a mark of its own that
/// depends on nothing but its full name.
fn names<'a>(full: &BTreeSet<&'a str>) -> BTreeMap<&'a str, String> {
    let plain = |name: &str| name.to_lowercase().replace(['_', '.'], "-").trim_matches('-').to_owned();
    let alone = |name: &str| full.iter().filter(|other| plain(other) == plain(name)).count() == 1;
    let of = |name: &&'a str| {
        let plain = plain(name);
        if plain.len() <= MOST && alone(name) {
            return (*name, plain);
        }
        let digest = Sha256::digest(name.as_bytes());
        let mark =
            format!("{:08x}", digest.iter().take(4).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)));
        let start: String = plain.chars().take(MOST - 1 - mark.len()).collect();
        (*name, format!("{}-{mark}", start.trim_end_matches('-')))
    };
    full.iter().map(of).collect()
}

fn part_of(stack: &str) -> String {
    let start: String = stack.chars().take(MOST).collect();
    start.trim_end_matches(['_', '-', '.']).to_owned()
}

/// A qualified name: a domain and `/` before it, or neither.
fn is_label_key(key: &str) -> bool {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    !name.is_empty()
        && is_label_value(name)
        && domain.is_none_or(|domain| domain.len() <= 253 && domain.split('.').all(is_part_of_domain))
}

fn is_part_of_domain(part: &str) -> bool {
    !part.is_empty()
        && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !part.starts_with('-')
        && !part.ends_with('-')
}

fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() <= MOST
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_two_names_fall_together_and_what_can_stays_plain() {
        let long = "shop_".to_owned() + &"x".repeat(80);
        let all = ["shop_a_b", "shop_a-b", "shop_data", &long];
        let names = names(&all.into());
        assert_eq!(names["shop_data"], "shop-data");
        assert_ne!(names["shop_a_b"], names["shop_a-b"]);
        assert!(names["shop_a_b"].starts_with("shop-a-b-"));
        assert_eq!(names[long.as_str()].len(), MOST);
    }

    #[test]
    fn labels_are_those_that_a_cluster_takes() {
        for (key, value, taken) in [
            ("team", "blue", true),
            ("com.example/team", "", true),
            ("com.example/x y", "a", false),
            ("Com.example/x", "a", false),
            ("team", "no label value", false),
            ("team", "-a", false),
            ("", "a", false),
        ] {
            assert_eq!(is_label_key(key) && is_label_value(value), taken, "{key}={value}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_one_for_kubernetes(full in proptest::collection::btree_set("[a-zA-Z0-9][a-zA-Z0-9._-]{0,90}", 1..12)) {
            let names = names(&full.iter().map(String::as_str).collect());
            let distinct: BTreeSet<_> = names.values().collect();
            prop_assert_eq!(distinct.len(), full.len());
            for name in names.values() {
                prop_assert!(name.len() <= MOST && !name.ends_with('-') && !name.starts_with('-'), "{}", name);
            }
        }
    }
}
