//! The engines that Docker's contexts name, as `docker context use` notes them
//! (<https://docs.docker.com/engine/manage-resources/contexts/>).

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::reading;

/// The context of the usual socket, and of `DOCKER_HOST`.
const DEFAULT: &str = "default";

/// A context that is in force.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Context {
    /// What chose it, in words.
    pub(super) by: String,
    /// Where its engine is asked, or why that is not known.
    pub(super) endpoint: Result<String, String>,
}

/// What Docker's configuration says of contexts.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Configuration {
    current_context: String,
}

/// What is noted of a context.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Endpoint,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    host: String,
}

/// The contexts that the variables and the configuration of whoever runs us choose: one hides no other, as each engine has its own containers.
/// `patience`: with each of Docker's files.
pub(super) fn in_force(variable: &dyn Fn(&str) -> Option<OsString>, patience: Duration) -> Vec<Context> {
    let own = || Some(Path::new(&variable("HOME")?).join(".docker"));
    let folder = variable("DOCKER_CONFIG").map(PathBuf::from).or_else(own);
    let configured = folder.as_ref().map_or(Ok(None), |folder| configured(folder, patience));
    let (configured, unknown) = match configured {
        Ok(name) => (name, None),
        Err(why) => (None, Some(Context { by: "Docker's configuration".to_owned(), endpoint: Err(why) })),
    };
    let mut names: Vec<OsString> =
        variable("DOCKER_CONTEXT").into_iter().chain(configured.map(OsString::from)).collect();
    names.retain(|name| !name.is_empty() && name != DEFAULT);
    names.dedup();
    let context = |name: OsString| {
        let endpoint = match &folder {
            Some(folder) => endpoint(folder, &name, patience),
            None => Err("there is no home to look for it".to_owned()),
        };
        Context { by: format!("context '{}'", name.display()), endpoint }
    };
    names.into_iter().map(context).chain(unknown).collect()
}

/// The context that Docker's configuration chooses.
fn configured(folder: &Path, patience: Duration) -> Result<Option<String>, String> {
    let path = folder.join("config.json");
    let text = match reading::read(&path, patience) {
        Err(why) if !why.is_absent() => return Err(format!("{}: {why}", path.display())),
        other => other.unwrap_or_default(),
    };
    // Docker goes on without a configuration that it can't read.
    Ok(serde_json::from_slice::<Configuration>(&text).ok().map(|configured| configured.current_context))
}

fn endpoint(folder: &Path, context: &OsStr, patience: Duration) -> Result<String, String> {
    let path = meta(folder, context);
    let text = reading::read(&path, patience).map_err(|why| format!("{}: {why}", path.display()))?;
    let meta: Meta = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(meta.endpoints.docker.host)
}

/// The file that a context is noted in.
fn meta(folder: &Path, context: &OsStr) -> PathBuf {
    let mut name = String::new();
    for byte in Sha256::digest(context.as_bytes()) {
        let _ = write!(name, "{byte:02x}");
    }
    folder.join("contexts/meta").join(name).join("meta.json")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn contexts_are_those_of_the_variable_and_of_the_configuration() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".docker");
        for (name, host) in [("rootless", "unix:///run/user/1000/docker.sock"), ("far", "ssh://far")] {
            let file = meta(&folder, OsStr::new(name));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let text = format!(
                r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
            );
            fs::write(file, text).unwrap();
        }
        let found = |variables: &[(&str, &str)]| {
            let variable = |name: &str| match name {
                "HOME" => Some(home.path().as_os_str().to_owned()),
                _ => {
                    variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
                }
            };
            in_force(&variable, Duration::from_mins(1))
        };
        let context = |name: &str, host: &str| Context {
            by: format!("context '{name}'"),
            endpoint: Ok(host.to_owned()),
        };
        let (rootless, far) =
            (|| context("rootless", "unix:///run/user/1000/docker.sock"), || context("far", "ssh://far"));
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[("DOCKER_CONTEXT", "far")]), [far()]);
        fs::write(folder.join("config.json"), r#"{"auths":{},"currentContext":"rootless"}"#).unwrap();
        assert_eq!(found(&[]), [rootless()]);
        assert_eq!(found(&[("DOCKER_CONTEXT", "default")]), [rootless()]);
        assert_eq!(found(&[("DOCKER_CONTEXT", "rootless")]), [rootless()]);
        assert_eq!(found(&[("DOCKER_CONTEXT", "far")]), [far(), rootless()]);
        // Another folder of Docker's.
        assert_eq!(found(&[("DOCKER_CONFIG", "/none")]), []);
        for text in [r#"{"currentContext":"default"}"#, r#"{"currentContext":""}"#, "{}", "odd"] {
            fs::write(folder.join("config.json"), text).unwrap();
            assert_eq!(found(&[]), [], "{text}");
        }
        let gone = found(&[("DOCKER_CONTEXT", "gone")]).remove(0);
        assert!(gone.endpoint.unwrap_err().contains("meta.json: No such file"));
        // What may choose any is not taken for none.
        fs::remove_file(folder.join("config.json")).unwrap();
        fs::create_dir(folder.join("config.json")).unwrap();
        assert!(found(&[]).remove(0).endpoint.unwrap_err().contains("config.json: it is no file"));
    }
}
