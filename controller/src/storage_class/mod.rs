//! What a StorageClass says, and whether it makes what is asked for. The class is somebody else's object: it may be missing, or say
//! something else than its name does.

mod parameters;

pub(crate) use parameters::{Parameters, SnapshotParameters};

use crate::index::{Class, State};
use std::collections::BTreeSet;
use tierce_crds::{Binding, Filesystem, mount_options, names};

/// Which Secret the kubelet hands to the node. Without it the node gets no key, and with another one a wrong one.
const KEY_OF: &str = "csi.storage.k8s.io/node-stage-secret-name";
const KEY_NAMESPACE: &str = "csi.storage.k8s.io/node-stage-secret-namespace";
/// What it has to be: external-provisioner puts the name of the PersistentVolume in.
const KEY_NAME: &str = "tierce-key-${pv.name}";

/// Where a class says which filesystem its volumes get.
const FILESYSTEM: &str = "csi.storage.k8s.io/fstype";

/// The filesystem of a class, where it names one that there is.
pub(crate) fn filesystem(class: &Class) -> Option<Filesystem> {
    class.parameters.get(FILESYSTEM).and_then(|name| name.parse().ok())
}

/// Why no volume can be made through a class of ours that somebody wrote by hand, or why no node mounts what is. `tiers`: those that there are; `ours`:
/// the namespace of the release; `source`: the filesystem of what the volume starts with.
pub(crate) fn slip(
    class: &Class,
    tiers: &BTreeSet<String>,
    ours: &str,
    source: Option<Filesystem>,
) -> Option<String> {
    let list = || tiers.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let has = match Parameters::of_class(&class.parameters) {
        Ok(has) => has,
        Err(error) => return Some(format!("its parameters can't be used: {error}")),
    };
    match &has.tier {
        None => return Some(format!("it has no parameter \"tier\": the tiers are {}", list())),
        Some(tier) if !tiers.contains(tier) => {
            return Some(format!("no tier is named {tier:?}: the tiers are {}", list()));
        }
        Some(_) => {}
    }
    if let Some(name) = class.parameters.get(FILESYSTEM)
        && name.parse::<Filesystem>().is_err()
    {
        return Some(format!("{FILESYSTEM} is {name:?}, and not one of ext4, xfs, btrfs"));
    }
    if let Some(trouble) = other_key(class, has.is_encrypted(), ours) {
        return Some(format!("it {trouble}"));
    }
    let filesystem = filesystem(class).or(source).unwrap_or(Filesystem::Ext4);
    let refusal = mount_options::check(filesystem, &class.mount_options).err()?;
    Some(format!("its mountOptions: {refusal}"))
}

/// Why the class of this name does not make volumes of this tier, encrypted or not, with this binding; `None` where it does, or nobody knows yet.
pub(crate) fn trouble(
    state: &State,
    class: &str,
    (tier, encrypted, binding): (&str, bool, Binding),
) -> Option<String> {
    if !state.classes.is_whole() {
        return None;
    }
    let Some(found) = state.classes.get(class) else {
        let kind = if encrypted { ", encrypted" } else { "" };
        return Some(format!(
            "StorageClass {class} is not there, and volumes of tier {tier:?}{kind} are made through it: name the tier in the \
             chart's `tiers`, or apply that class (provisioner {}, {})",
            names::DRIVER,
            wanted(tier, encrypted, binding)
        ));
    };
    let what = other(found, tier, encrypted)
        .or_else(|| other_key(found, encrypted, state.namespace()))
        .or_else(|| other_binding(found, binding))?;
    Some(format!(
        "StorageClass {class} {what}: delete it, which no volume minds, and apply it anew with provisioner {} and {}",
        names::DRIVER,
        wanted(tier, encrypted, binding)
    ))
}

fn wanted(tier: &str, encrypted: bool, binding: Binding) -> String {
    let parameters = if encrypted {
        format!(
            "the parameters tier: {tier}, encrypted: \"true\" and those of the key, as in examples/storagepool.yaml"
        )
    } else {
        format!("the parameter tier: {tier}")
    };
    format!("{parameters}; volumeBindingMode: {}", mode(binding))
}

fn mode(binding: Binding) -> &'static str {
    match binding {
        Binding::OnFirstUse => "WaitForFirstConsumer",
        Binding::Immediate => "Immediate",
    }
}

/// What the class does instead.
fn other(class: &Class, tier: &str, encrypted: bool) -> Option<String> {
    if class.provisioner != names::DRIVER {
        return Some(format!("is of another driver, {}", class.provisioner));
    }
    let has = match Parameters::of_class(&class.parameters) {
        Ok(has) => has,
        Err(error) => return Some(format!("can't be used: {error}")),
    };
    match has.tier.as_deref() {
        Some(its) if its == tier => {}
        Some(its) => return Some(format!("makes volumes of tier {its:?} instead of {tier:?}")),
        None => return Some("names no tier".to_owned()),
    }
    match (has.is_encrypted(), encrypted) {
        (false, true) => Some("makes volumes that are not encrypted".to_owned()),
        (true, false) => Some("makes encrypted volumes".to_owned()),
        _ => None,
    }
}

/// Why no node gets the key. `ours`: the namespace of the release, empty where that is not known.
fn other_key(class: &Class, encrypted: bool, ours: &str) -> Option<String> {
    if !encrypted {
        return None;
    }
    let of = |name: &str| class.parameters.get(name).map(String::as_str);
    let (Some(name), Some(namespace)) = (of(KEY_OF), of(KEY_NAMESPACE)) else {
        let missing = if of(KEY_OF).is_none() { KEY_OF } else { KEY_NAMESPACE };
        return Some(format!("has no parameter {missing}, so no node gets the key"));
    };
    if name != KEY_NAME {
        return Some(format!("has {KEY_OF}: {name:?} instead of {KEY_NAME:?}, so no node gets the key"));
    }
    (namespace != ours && !ours.is_empty()).then(|| {
        format!("has {KEY_NAMESPACE}: {namespace:?}, but the keys are in {ours:?}, so no node gets the key")
    })
}

fn other_binding(class: &Class, binding: Binding) -> Option<String> {
    (class.binding != binding)
        .then(|| format!("has volumeBindingMode {} instead of {}", mode(class.binding), mode(binding)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{ClassObject, Index};
    use serde_json::json;

    fn index(classes: &[serde_json::Value]) -> Index {
        let index = Index::default();
        index.begin::<ClassObject>();
        for class in classes {
            let mut object = json!({"metadata": {"name": "c"}, "provisioner": names::DRIVER});
            object.as_object_mut().unwrap().extend(class.as_object().unwrap().clone());
            index.put(serde_json::from_value::<ClassObject>(object).unwrap());
        }
        index.end::<ClassObject>();
        index
    }

    #[test]
    fn a_class_that_makes_something_else_is_told_with_what() {
        let key = json!(KEY_NAME);
        let with_key = |name: &str, namespace: &str| json!({"parameters": {"tier": "hdd", "encrypted": "true", KEY_OF: name, KEY_NAMESPACE: namespace}});
        for (class, encrypted, words) in [
            (json!({"parameters": {"tier": "hdd"}}), false, ""),
            (json!({"parameters": {"tier": "hdd", "csi.storage.k8s.io/fstype": "xfs"}}), false, ""),
            (with_key(KEY_NAME, "storage"), true, ""),
            (with_key("tierce-key-${pvc.name}", "storage"), true, "instead of \"tierce-key-${pv.name}\""),
            (with_key(KEY_NAME, "tierce-system"), true, "but the keys are in \"storage\""),
            (json!({"parameters": {"tier": "hdd", "encrypted": "true", KEY_OF: key}}), true, KEY_NAMESPACE),
            (
                json!({"volumeBindingMode": "WaitForFirstConsumer", "parameters": {"tier": "hdd"}}),
                false,
                "has volumeBindingMode WaitForFirstConsumer instead of Immediate",
            ),
            (json!({"provisioner": "other.example"}), false, "is of another driver, other.example"),
            (json!({"parameters": {"teir": "hdd"}}), false, "unknown field `teir`"),
            (json!({}), false, "names no tier"),
            (
                json!({"parameters": {"tier": "ssd"}}),
                false,
                "makes volumes of tier \"ssd\" instead of \"hdd\"",
            ),
            (json!({"parameters": {"tier": "hdd"}}), true, "makes volumes that are not encrypted"),
            (json!({"parameters": {"tier": "hdd", "encrypted": "true"}}), false, "makes encrypted volumes"),
            (json!({"parameters": {"tier": "hdd", "encrypted": "true"}}), true, "so no node gets the key"),
        ] {
            let index = index(std::slice::from_ref(&class));
            index.keys_are_in("storage");
            let told = index.read(|state| trouble(state, "c", ("hdd", encrypted, Binding::Immediate)));
            assert_eq!(told.is_some(), !words.is_empty(), "{class}: {told:?}");
            assert!(told.unwrap_or_default().contains(words), "{class}");
        }
    }

    #[test]
    fn a_slip_in_a_class_is_named_with_the_wrong_word() {
        let with = |more: &serde_json::Value| {
            let mut object = json!({"metadata": {"name": "c"}, "provisioner": names::DRIVER, "parameters": {"tier": "hdd"}});
            object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Class::of(serde_json::from_value(object).unwrap())
        };
        let tiers = ["hdd".to_owned(), "ssd".to_owned()].into();
        for (class, words) in [
            (json!({}), ""),
            (json!({"mountOptions": ["noatime"]}), ""),
            (json!({"mountOptions": ["inode64"], "parameters": {"tier": "hdd", FILESYSTEM: "xfs"}}), ""),
            (
                json!({"parameters": {"tier": "standart-ssd"}}),
                "no tier is named \"standart-ssd\": the tiers are hdd, ssd",
            ),
            (json!({"parameters": {"teir": "hdd"}}), "unknown field `teir`"),
            (json!({"parameters": {"tier": "hdd", "fsType": "xfs"}}), "unknown field `fsType`"),
            (json!({"parameters": null}), "it has no parameter \"tier\": the tiers are hdd, ssd"),
            (
                json!({"parameters": {"tier": "hdd", FILESYSTEM: "zfs"}}),
                "is \"zfs\", and not one of ext4, xfs, btrfs",
            ),
            (json!({"parameters": {"tier": "hdd", "encrypted": "true"}}), "so no node gets the key"),
            (
                json!({"mountOptions": ["nobarrier"]}),
                "its mountOptions: mount option \"nobarrier\" is not allowed for ext4",
            ),
            (json!({"mountOptions": ["inode64"]}), "\"inode64\" is not allowed for ext4"),
        ] {
            let told = slip(&with(&class), &tiers, "storage", None);
            assert_eq!(told.is_some(), !words.is_empty(), "{class}: {told:?}");
            assert!(told.as_deref().unwrap_or_default().contains(words), "{class}: {told:?}");
        }
        assert_eq!(
            slip(&with(&json!({"mountOptions": ["inode64"]})), &tiers, "storage", Some(Filesystem::Xfs)),
            None
        );
    }

    #[test]
    fn a_class_that_is_missing_is_told_once_all_are_known() {
        assert_eq!(
            Index::default().read(|state| trouble(state, "c", ("hdd", false, Binding::Immediate))),
            None
        );
        let told = index(&[])
            .read(|state| trouble(state, "tierce-hdd", ("hdd", false, Binding::Immediate)))
            .unwrap();
        assert!(told.starts_with("StorageClass tierce-hdd is not there"), "{told}");
        assert!(told.contains("provisioner csi.tierce.dev, the parameter tier: hdd"), "{told}");
    }
}
