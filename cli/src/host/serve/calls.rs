//! The calls of the plugin protocol.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{
    Error,
    attachments::Holder,
    volume_removal,
    volumes::{Volume, Volumes},
};
use super::asked::new_volume;
use crate::failure;

/// The fields of all calls together; each has some of them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    name: String,
    #[serde(rename = "ID")]
    id: String,
    opts: Option<BTreeMap<String, String>>,
}

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unknown(String),
    /// What whoever called shall read.
    Failed(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(failure::in_words(&error))
    }
}

/// Carries out one call; `caller`: the process that makes it, where that is known.
pub(super) fn answer(
    volumes: &Volumes,
    call: &str,
    body: &[u8],
    caller: Option<Holder>,
) -> Result<Value, Refusal> {
    let request: Request = if body.is_empty() {
        Request::default()
    } else {
        serde_json::from_slice(body).map_err(|error| Refusal::Failed(format!("not understood: {error}")))?
    };
    let name = request.name.as_str();
    Ok(match call {
        "Plugin.Activate" => json!({"Implements": ["VolumeDriver"]}),
        "VolumeDriver.Capabilities" => json!({"Capabilities": {"Scope": "local"}}),
        "VolumeDriver.Create" => {
            let options = request.opts.unwrap_or_default();
            match volumes.find(name)? {
                // Compose asks for each volume by its full name before it uses it; one that is there, of whatever stack, is meant.
                Some(there) if options.is_empty() => there.check_whole()?,
                _ => {
                    let (name, new) = new_volume(name, &options)?;
                    volumes.create(&name, &new)?;
                }
            }
            json!({"Err": ""})
        }
        "VolumeDriver.Remove" => {
            // Its engine shall forget it.
            volume_removal::left_is_told(volumes.remove(name, false))?;
            json!({"Err": ""})
        }
        "VolumeDriver.Mount" => {
            let place = volumes.mount_for_container(name, id(&request)?, caller)?;
            json!({"Mountpoint": place, "Err": ""})
        }
        "VolumeDriver.Unmount" => {
            volumes.unmount_for_container(name, id(&request)?)?;
            json!({"Err": ""})
        }
        "VolumeDriver.Path" => json!({"Mountpoint": volumes.get(name)?.path, "Err": ""}),
        "VolumeDriver.Get" => json!({"Volume": described(volumes, name)?, "Err": ""}),
        "VolumeDriver.List" => {
            let all = volumes.listing()?;
            // Podman forgets what is missing here, and makes an empty volume of its own where a container wants that.
            let away = all.out_of_sight.iter().map(|name| json!({"Name": name.full()}));
            json!({"Volumes": all.volumes.iter().map(shown).chain(away).collect::<Vec<_>>(), "Err": ""})
        }
        other => return Err(Refusal::Unknown(other.to_owned())),
    })
}

fn id(request: &Request) -> Result<&str, Refusal> {
    let id = request.id.as_str();
    if id.is_empty() || id.len() > 256 || id.contains(char::is_control) {
        return Err(Refusal::Failed("the call names no container (ID)".to_owned()));
    }
    Ok(id)
}

/// A volume with all that is known of it.
fn described(volumes: &Volumes, name: &str) -> Result<Value, Error> {
    let volume = match volumes.get(name) {
        // Podman asks for each volume on its list, and shows no list where one has no answer: that a disk is away concerns its volumes alone.
        Err(error) if volumes.is_out_of_sight(name, &error) => {
            return Ok(json!({"Name": name, "Status": {"Error": failure::in_words(&error)}}));
        }
        other => other?,
    };
    let mut described = shown(&volume);
    if let Ok(created) = volume.created_at() {
        described["CreatedAt"] = json!(created.to_string());
    }
    described["Status"] = json!({});
    Ok(described)
}

fn shown(volume: &Volume) -> Value {
    json!({"Name": volume.name.full(), "Mountpoint": volume.path})
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::{keys::Asking, layout::Root, names::Name, record::Record, stack, volumes::NewVolume},
        *,
    };
    use crate::{
        args::{Output, StackCommand, StackFile, StackRemove},
        labels,
    };

    #[test]
    fn mounts_are_counted_by_container_and_a_used_volume_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        // Each call as a process of its own would make it.
        let call = |call: &str, body: Value| {
            answer(
                &Volumes::new(Root::new(folder.path()), &[], Asking::Never),
                call,
                body.to_string().as_bytes(),
                None,
            )
        };
        let failed = |result: Result<Value, Refusal>| match result {
            Err(Refusal::Failed(message)) => message,
            other => unreachable!("{other:?}"),
        };
        call("VolumeDriver.Create", json!({"Name": "a", "Opts": {"label.team": "blue"}})).unwrap();
        let (first, second) = ("0123456789abcdef", "fedcba9876543210");
        for id in [first, first, second] {
            let mounted = call("VolumeDriver.Mount", json!({"Name": "a", "ID": id})).unwrap();
            assert_eq!(mounted["Mountpoint"], json!(folder.path().join("volumes/local/a")));
        }
        call("VolumeDriver.Unmount", json!({"Name": "a", "ID": first})).unwrap();
        call("VolumeDriver.Unmount", json!({"Name": "a", "ID": second})).unwrap();
        call("VolumeDriver.Unmount", json!({"Name": "a", "ID": second})).unwrap();
        let message = failed(call("VolumeDriver.Remove", json!({"Name": "a"})));
        assert!(message.contains("in use by: container 0123456789ab."), "{message}");
        call("VolumeDriver.Unmount", json!({"Name": "a", "ID": first})).unwrap();
        call("VolumeDriver.Remove", json!({"Name": "a"})).unwrap();
        assert_eq!(call("VolumeDriver.List", json!({})).unwrap()["Volumes"], json!([]));
        assert!(failed(call("VolumeDriver.Get", json!({"Name": "a"}))).contains("not found"));
    }

    /// Compose asks the plugin for a volume by its full name, with the options of the file.
    #[test]
    fn a_volume_of_a_stack_and_one_of_the_plugin_are_the_same_in_either_order() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(Root::new(folder.path()), &[], Asking::Never);
        let asked = |options: Value| {
            let body = json!({"Name": "shop_data", "Opts": options}).to_string();
            answer(&volumes, "VolumeDriver.Create", body.as_bytes(), None)
        };
        let name = Name::new(Some("shop"), "data").unwrap();
        let labels =
            |words: &[&str]| labels::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let of_stack = |words: &[&str]| {
            let labels = labels(words).unwrap();
            volumes.create(&name, &NewVolume { labels, by_full_name: true, ..NewVolume::default() })
        };
        let is_labelled = |words: &[&str]| {
            let volume = volumes.get("shop_data").unwrap();
            assert_eq!(volume.record.unwrap().labels, labels(words).unwrap());
            assert_eq!(volumes.list().unwrap().0.len(), 1);
        };
        of_stack(&["team=blue"]).unwrap();
        asked(json!({"label.team": "blue"})).unwrap();
        asked(json!({"label.more": ""})).unwrap();
        assert!(asked(json!({"label.team": "red"})).is_err());
        assert!(asked(json!({"size": "64Mi"})).is_err());
        is_labelled(&["team=blue", "more"]);
        volumes.remove("shop_data", false).unwrap();
        asked(json!({"label.more": ""})).unwrap();
        of_stack(&["team=blue"]).unwrap();
        of_stack(&["team=blue"]).unwrap();
        assert!(of_stack(&["team=red"]).is_err());
        is_labelled(&["team=blue", "more"]);
        // By hand, a stack that is named is meant.
        assert!(volumes.create(&name, &NewVolume::default()).is_err());
    }

    /// That is another project's, which is down just now, or nobody's.
    #[test]
    fn a_stack_takes_no_volume_that_an_engine_made_by_another_name_than_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(Root::new(folder.path()), &[], Asking::Never);
        let file = folder.path().join("compose.yaml");
        std::fs::write(&file, json!({"volumes": {"a": {"name": "common"}, "b": {}}}).to_string()).unwrap();
        let asked =
            || StackFile { file: vec![file.clone()], name: Some("s".to_owned()), ..Default::default() };
        for name in ["common", "s_b"] {
            answer(&volumes, "VolumeDriver.Create", json!({"Name": name}).to_string().as_bytes(), None)
                .unwrap();
        }
        let plan = stack::read(&asked()).unwrap();
        let states = plan.volumes.iter().map(|volume| volumes.state(volume, "s").unwrap().in_words());
        assert_eq!(states.collect::<Vec<_>>(), ["of no stack", "exists"]);
        stack::run(&volumes, StackCommand::Create(asked()), Output::Name).unwrap();
        let remove = StackCommand::Rm(StackRemove { file: asked(), volumes: true });
        stack::run(&volumes, remove, Output::Name).unwrap();
        let left = volumes.list().unwrap().0.into_iter().map(|volume| volume.name.full());
        assert_eq!(left.collect::<Vec<_>>(), ["common"]);
    }

    #[test]
    fn a_volume_is_made_in_a_stack_by_the_name_that_it_is_asked_for_later() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(Root::new(folder.path()), &[], Asking::Never);
        let call = |call: &str, name: &str, options: Value| {
            let body = json!({"Name": name, "ID": "0123456789abcdef", "Opts": options}).to_string();
            answer(&volumes, &format!("VolumeDriver.{call}"), body.as_bytes(), None)
        };
        for options in [json!({"stack": "shop"}), json!({"o": "stack=shop"})] {
            for (name, full) in [("data", "shop_data"), ("shop", "shop_shop"), ("shopdata", "shop_shopdata")]
            {
                let Err(Refusal::Failed(message)) = call("Create", name, options.clone()) else {
                    unreachable!()
                };
                assert!(message.contains(&format!("ask for '{full}'")), "{message}");
            }
            assert!(call("Create", "shop_", options.clone()).is_err());
            let (stack, name) = ("s".repeat(100), "n".repeat(100));
            let long = format!("{stack}_{name}");
            call("Create", &long, json!({"stack": stack})).unwrap();
            assert_eq!(volumes.get(&long).unwrap().name, Name::new(Some(&stack), &name).unwrap());
            volumes.remove(&long, false).unwrap();
            assert_eq!(volumes.list().unwrap().0, []);
            // Engines repeat it.
            for _ in 0..2 {
                call("Create", "shop_data", options.clone()).unwrap();
            }
            let place = json!(folder.path().join("volumes/shop/data"));
            assert_eq!(call("Get", "shop_data", json!({})).unwrap()["Volume"]["Mountpoint"], place);
            assert_eq!(
                call("List", "", json!({})).unwrap()["Volumes"],
                json!([{"Name": "shop_data", "Mountpoint": place}])
            );
            for asked in ["Path", "Mount"] {
                assert_eq!(call(asked, "shop_data", json!({})).unwrap()["Mountpoint"], place);
            }
            assert!(call("Create", "shop_data", json!({"stack": "shop_data"})).is_err());
            call("Unmount", "shop_data", json!({})).unwrap();
            call("Remove", "shop_data", json!({})).unwrap();
        }
    }

    #[test]
    fn a_volume_whose_disk_is_away_is_described_with_the_reason_and_one_that_is_gone_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(Root::new(folder.path()), &[], Asking::Never);
        let call = |call: &str| {
            let body = json!({"Name": "a", "ID": "0123456789abcdef"}).to_string();
            answer(&volumes, &format!("VolumeDriver.{call}"), body.as_bytes(), None)
        };
        let name = Name::new(None, "a").unwrap();
        let mut record = Record::new(jiff::Timestamp::now());
        record.pool = Some("away".to_owned());
        record.save(&volumes.root, &name).unwrap();
        let described = call("Get").unwrap();
        assert_eq!(described["Volume"]["Name"], "a");
        let reason = described["Volume"]["Status"]["Error"].as_str().unwrap();
        assert!(reason.contains("lies in pool 'away', which is not open"), "{reason}");
        // Whoever is asked to reload its list keeps it.
        let listed = answer(&volumes, "VolumeDriver.List", b"", None).unwrap();
        assert_eq!(listed["Volumes"], json!([{"Name": "a"}]));
        for other in ["Path", "Mount", "Remove", "Create"] {
            assert!(call(other).is_err(), "{other}");
        }
        // A record alone is no volume.
        record.pool = None;
        record.save(&volumes.root, &name).unwrap();
        let Err(Refusal::Failed(message)) = call("Get") else { unreachable!() };
        assert!(message.contains("not found"), "{message}");
    }

    #[test]
    fn a_use_lasts_as_long_as_whoever_asked_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let call = |call: &str, caller: Option<u32>| {
            answer(
                &Volumes::new(Root::new(folder.path()), &[], Asking::Never),
                call,
                json!({"Name": "a", "ID": "0123456789abcdef"}).to_string().as_bytes(),
                caller.map(|pid| Holder::caller(pid).unwrap()),
            )
        };
        let mut engine = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        call("VolumeDriver.Create", None).unwrap();
        for caller in [Some(engine.id()), Some(engine.id())] {
            call("VolumeDriver.Mount", caller).unwrap();
        }
        call("VolumeDriver.Unmount", Some(engine.id())).unwrap();
        let Err(Refusal::Failed(message)) = call("VolumeDriver.Remove", None) else { unreachable!() };
        assert!(message.contains("tierce --host volume detach"), "{message}");
        engine.kill().unwrap();
        engine.wait().unwrap();
        call("VolumeDriver.Remove", None).unwrap();
        // Nothing is left of it for a caller that is not known: that use lasts until it is given back.
        call("VolumeDriver.Create", None).unwrap();
        call("VolumeDriver.Mount", Some(engine.id())).unwrap();
        call("VolumeDriver.Mount", None).unwrap();
        assert!(call("VolumeDriver.Remove", None).is_err());
        let volumes = Volumes::new(Root::new(folder.path()), &[], Asking::Never);
        volumes.detach("a", "0123456789ab").unwrap();
        call("VolumeDriver.Remove", None).unwrap();
    }

    #[test]
    fn a_volume_that_is_not_whole_is_given_to_no_container() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(Root::new(folder.path()), &[], Asking::Never);
        let filled_by = |name: &str, filling: Holder| {
            let new = NewVolume { filling: Some(filling), ..NewVolume::default() };
            volumes.create(&Name::new(None, name).unwrap(), &new).unwrap();
        };
        filled_by("runs", Holder::process(std::process::id()).unwrap());
        filled_by("killed", Holder::Boot { boot: "another".to_owned() });
        for (name, words) in
            [("runs", "tierce volume import, which fills it"), ("killed", "its import was interrupted")]
        {
            for (call, options) in
                [("Mount", json!({})), ("Create", json!({})), ("Create", json!({"o": "mode=0770"}))]
            {
                let body = json!({"Name": name, "ID": "0123456789abcdef", "Opts": options}).to_string();
                match answer(&volumes, &format!("VolumeDriver.{call}"), body.as_bytes(), None) {
                    Err(Refusal::Failed(message)) => assert!(message.contains(words), "{message}"),
                    other => unreachable!("{call} {options}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn the_folder_of_a_new_volume_has_the_mode_that_options_of_each_form_ask_for() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(Root::new(folder.path()), &[], Asking::Never);
        let create = |name: &str, options: Value| {
            let body = json!({"Name": name, "Opts": options}).to_string();
            answer(&volumes, "VolumeDriver.Create", body.as_bytes(), None)
        };
        let (uid, gid) = (rustix::process::geteuid().to_string(), rustix::process::getegid().to_string());
        for (name, options) in [
            ("a", json!({"mode": "0770", "uid": uid})),
            ("b", json!({"o": format!("mode=0770,gid={gid}")})),
            ("c", json!({"UID": uid, "GID": gid, "o": "mode=0770"})),
        ] {
            create(name, options.clone()).unwrap();
            create(name, options).unwrap();
            let mode = std::fs::metadata(volumes.get(name).unwrap().path).unwrap().permissions();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o7777, 0o770, "{name}");
            assert!(create(name, json!({"mode": "0700"})).is_err(), "{name}");
        }
        for (options, words) in [
            (json!({"o": "rw"}), "'rw' in driver option 'o' is not known"),
            (json!({"o": "mode=0770", "mode": "0700"}), "given as"),
            (json!({"type": "tmpfs"}), "driver option 'type' is not known: size"),
            (json!({"UID": "postgres"}), "driver option 'uid' is 'postgres'"),
        ] {
            let Err(Refusal::Failed(message)) = create("d", options) else { unreachable!() };
            assert!(message.contains(words), "{message}");
        }
        assert!(volumes.find("d").unwrap().is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(Root::new(folder.path()), &[], Asking::Never);
        for (call, body) in [
            ("VolumeDriver.Create", json!({"Name": "../x"})),
            ("VolumeDriver.Create", json!({"Name": "a", "Opts": {"colour": "blue"}})),
            ("VolumeDriver.Create", json!({"Name": "a", "Opts": {"size": "10GB"}})),
            ("VolumeDriver.Create", json!({"Name": "a", "Opts": {"filesystem": "xfs"}})),
            ("VolumeDriver.Create", json!({"Name": "a", "Opts": {"pool": "fast"}})),
            ("VolumeDriver.Create", json!({"Name": "a", "Opts": {"size": "1Gi", "pool": "fast"}})),
            (
                "VolumeDriver.Create",
                json!({"Name": "a", "Opts": {"size": "1Gi", "passphrase": "correct horse"}}),
            ),
            ("VolumeDriver.Mount", json!({"Name": "a", "ID": ""})),
            ("VolumeDriver.Mount", json!({"Name": 7})),
        ] {
            let refused = answer(&volumes, call, body.to_string().as_bytes(), None);
            assert!(matches!(refused, Err(Refusal::Failed(_))), "{call} {body}");
        }
        assert_eq!(answer(&volumes, "Nonsense", b"", None), Err(Refusal::Unknown("Nonsense".to_owned())));
        assert!(volumes.list().unwrap().0.is_empty());
    }
}
