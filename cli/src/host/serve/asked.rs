//! What an engine asks for: the volume that its name and options mean.

use std::collections::BTreeMap;

use super::super::{Error, driver_options::DriverOptions, names::Name, volumes::NewVolume};

pub(super) fn new_volume(name: &str, given: &BTreeMap<String, String>) -> Result<(Name, NewVolume), Error> {
    let (options, unfit) = DriverOptions::read(given);
    if let Some(first) = unfit.into_iter().next() {
        return Err(first.into());
    }
    let mut new = options.new_volume(&[])?;
    new.key = options.key()?;
    Ok((place(name, options.get("stack"))?, new))
}

/// Where a volume lies that is asked for by that name, and will be looked for by it: an engine knows no other, whatever its options say.
fn place(name: &str, stack: Option<&str>) -> Result<Name, Error> {
    let Some(stack) = stack else { return Ok(Name::new(None, name)?) };
    // A full name may be longer than one within a stack.
    match name.strip_prefix(stack).and_then(|rest| rest.strip_prefix('_')) {
        Some(short) if !short.is_empty() => Ok(Name::new(Some(stack), short)?),
        _ => {
            let within = Name::new(Some(stack), name)?;
            Err(Error::InvalidArgument(format!(
                "Volume '{name}' can't be made with driver option 'stack': in stack '{stack}' it is called '{within}', and would not be found as '{name}'; ask for '{within}', or leave the option out"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::super::stack, *};
    use crate::{args::StackFile, failure};

    /// What the plugin makes of options, and what `stack create` makes of them in a Compose file.
    fn by_both(options: &Value) -> [Result<NewVolume, String>; 2] {
        let given: BTreeMap<String, String> = serde_json::from_value(options.clone()).unwrap();
        let plugin = new_volume("s_a", &given).map(|(_, new)| new).map_err(|error| failure::in_words(&error));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("compose.yaml");
        let volume = json!({"volumes": {"a": {"driver": "tierce", "driver_opts": options}}});
        std::fs::write(&file, volume.to_string()).unwrap();
        let asked = StackFile { file: vec![file], name: Some("s".to_owned()), ..StackFile::default() };
        let mut plan = stack::read(&asked).unwrap();
        let compose = match plan.problems.pop() {
            Some(problem) => Err(problem.to_string()),
            None => stack::wanted(&plan.volumes[0]).map_err(|error| failure::in_words(&error)),
        };
        [plugin, compose]
    }

    /// Engines hand on the options of a Compose file as they stand there.
    #[test]
    fn options_ask_the_plugin_and_a_compose_file_for_the_same() {
        let plain = |options: Value| new_volume("s_a", &serde_json::from_value(options).unwrap()).unwrap().1;
        for (given, same_as) in [
            (json!({}), json!({})),
            (json!({"o": ""}), json!({})),
            (json!({"o": "uid=999"}), json!({"uid": "999"})),
            (json!({"o": "uid=999,gid=0,mode=0770"}), json!({"uid": "999", "gid": "0", "mode": "0770"})),
            (
                json!({"o": ",size=1Gi,,filesystem=xfs,pool=fast,"}),
                json!({"size": "1Gi", "filesystem": "xfs", "pool": "fast"}),
            ),
            (json!({"o": "size=1Gi,label.team=blue"}), json!({"size": "1Gi", "label.team": "blue"})),
            (json!({"o": "label.a=b=c"}), json!({"label.a": "b=c"})),
            (json!({"size": "1Gi", "o": "uid=1"}), json!({"size": "1Gi", "uid": "1"})),
            (json!({"uid": "1", "o": "uid=1"}), json!({"uid": "1"})),
            (
                json!({"UID": "1", "GID": "2", "SIZE": "1Gi", "o": "mode=0770"}),
                json!({"uid": "1", "gid": "2", "size": "1Gi", "mode": "0770"}),
            ),
            (json!({"size": "1Gi", "tier": "fast-ssd"}), json!({"size": "1Gi"})),
            (json!({"o": "size=1Gi,tier=fast-ssd"}), json!({"size": "1Gi"})),
        ] {
            let [plugin, compose] = by_both(&given);
            assert_eq!(plugin.as_ref(), Ok(&plain(same_as)), "{given}");
            assert_eq!(compose, plugin, "{given}");
        }
        for (given, words) in [
            (json!({"o": "bind"}), "'bind' in driver option 'o' is not known: size, "),
            (json!({"o": "uid=1,rw"}), "'rw' in driver option 'o' is not known"),
            (json!({"o": "colour=blue"}), "driver option 'colour' is not known: size, "),
            (json!({"o": "size=10GB"}), "size '10GB' is not valid"),
            (json!({"SIZE": "10GB"}), "size '10GB' is not valid"),
            (json!({"o": "mode=rwx"}), "driver option 'mode' is 'rwx'"),
            (json!({"o": "uid=postgres"}), "driver option 'uid' is 'postgres'"),
            (json!({"o": "uid="}), "driver option 'uid' is ''"),
            (json!({"o": "uid=1,uid=2"}), "driver option 'uid' is given as '1' and as '2'"),
            (json!({"o": "uid=1", "uid": "2"}), "driver option 'uid' is given as '1' and as '2'"),
            (json!({"UID": "1", "uid": "2"}), "driver option 'uid' is given as '1' and as '2'"),
            (json!({"o": "filesystem=xfs"}), "driver option 'filesystem' needs driver option 'size'"),
            (json!({"o": "label.=x"}), "Label '' is not valid"),
            (json!({"size": "1Gi", "passphrase": "x"}), "use 'key-file'"),
            (json!({"o": "size=1Gi,passphrase-file=/x"}), "use 'key-file'"),
            (json!({"type": "tmpfs"}), "driver option 'type' is not known: size, "),
            (json!({"device": "/x"}), "driver option 'device' is not known: size, "),
        ] {
            let [plugin, compose] = by_both(&given).map(Result::unwrap_err);
            assert!(plugin.contains(words), "{given}: {plugin}");
            // With its place in the file.
            assert!(compose.ends_with(&format!("volume 'a': {plugin}")), "{given}: {compose}");
        }
    }
}
