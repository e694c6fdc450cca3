//! The engines that Docker's contexts name, as `docker context use` notes them
//! (<https://docs.docker.com/engine/manage-resources/contexts/>).

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The context of the usual socket, and of `DOCKER_HOST`.
const DEFAULT: &str = "default";

/// A context that is in force.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) name: String,
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
pub(super) fn in_force(variable: &dyn Fn(&str) -> Option<String>) -> Vec<Context> {
    let own = || Some(Path::new(&variable("HOME")?).join(".docker"));
    let folder = variable("DOCKER_CONFIG").map(PathBuf::from).or_else(own);
    // Docker goes on without a configuration that it can't read.
    let configured = folder.as_ref().and_then(|folder| {
        let text = fs::read(folder.join("config.json")).ok()?;
        Some(serde_json::from_slice::<Configuration>(&text).ok()?.current_context)
    });
    let mut names: Vec<String> = [variable("DOCKER_CONTEXT"), configured].into_iter().flatten().collect();
    names.retain(|name| !name.is_empty() && name != DEFAULT);
    names.dedup();
    let context = |name: String| {
        let endpoint = match &folder {
            Some(folder) => endpoint(folder, &name),
            None => Err("there is no home to look for it".to_owned()),
        };
        Context { name, endpoint }
    };
    names.into_iter().map(context).collect()
}

fn endpoint(folder: &Path, context: &str) -> Result<String, String> {
    let path = meta(folder, context);
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let meta: Meta = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(meta.endpoints.docker.host)
}

/// The file that a context is noted in.
fn meta(folder: &Path, context: &str) -> PathBuf {
    let mut name = String::new();
    for byte in Sha256::digest(context) {
        let _ = write!(name, "{byte:02x}");
    }
    folder.join("contexts/meta").join(name).join("meta.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_those_of_the_variable_and_of_the_configuration() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".docker");
        for (name, host) in [("rootless", "unix:///run/user/1000/docker.sock"), ("far", "ssh://far")] {
            let file = meta(&folder, name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let text = format!(
                r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
            );
            fs::write(file, text).unwrap();
        }
        let found = |variables: &[(&str, &str)]| {
            let variable = |name: &str| match name {
                "HOME" => Some(home.path().to_str().unwrap().to_owned()),
                _ => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
            };
            in_force(&variable)
        };
        let context =
            |name: &str, host: &str| Context { name: name.to_owned(), endpoint: Ok(host.to_owned()) };
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
    }
}
