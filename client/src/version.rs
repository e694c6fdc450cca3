//! The versions of a program that asks, the API server, the controller and each node's plugin, and where they differ.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use crate::{Cluster, Connection, Error};

/// The containers whose images are Tierce's own.
const PROGRAMS: [&str; 2] = ["tierce-controller", "tierce-csi"];

/// The versions of what belongs together.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Of the program that asks.
    pub client: &'static str,
    /// Of the API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// Of each pod of Tierce.
    pub programs: Vec<Running>,
    /// Differences, in words.
    pub skew: Vec<String>,
}

/// A pod of Tierce.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Running {
    /// Which program.
    pub program: &'static str,
    /// The tag of its image.
    pub version: String,
    /// Where it runs.
    pub node: String,
    /// The pod's name.
    pub pod: String,
}

/// Asks for all versions. What is known is in the report also where the rest can't be had.
pub async fn ask_all(client: &'static str, connection: &Connection) -> (Report, Result<(), Error>) {
    let mut report = Report { client, kubernetes: None, programs: Vec::new(), skew: Vec::new() };
    let asked = match Cluster::open(connection).await {
        Ok(cluster) => ask(&cluster, &mut report).await,
        Err(error) => Err(error),
    };
    report.skew = skew(report.client, &report.programs);
    (report, asked)
}

async fn ask(cluster: &Cluster, report: &mut Report) -> Result<(), Error> {
    let server = cluster.client.apiserver_version().await;
    let server = server.map_err(|error| cluster.failed("ask the cluster for its version", error))?;
    report.kubernetes = Some(server.git_version);
    let ours = ListParams::default().labels("app.kubernetes.io/name=tierce");
    let pods = Api::<Pod>::all(cluster.client.clone()).list(&ours).await;
    let pods =
        pods.map_err(|error| cluster.failed("look at the programs of Tierce on the cluster", error))?;
    report.programs = pods.items.iter().filter_map(program).collect();
    report.programs.sort();
    if report.programs.is_empty() {
        return Err(Error::Refused(
            "no program of Tierce runs on this cluster: its administrator installs it with Helm".to_owned(),
        ));
    }
    Ok(())
}

fn program(pod: &Pod) -> Option<Running> {
    let spec = pod.spec.as_ref()?;
    let (program, image) = PROGRAMS.into_iter().find_map(|program| {
        let container = spec.containers.iter().find(|container| container.name == program)?;
        Some((program, container.image.clone().unwrap_or_default()))
    })?;
    Some(Running {
        program,
        version: tag(&image).to_owned(),
        node: spec.node_name.clone().unwrap_or_else(|| "none yet".to_owned()),
        pod: pod.name_any(),
    })
}

/// The tag of an image's reference; a digest tells no version.
fn tag(image: &str) -> &str {
    let named = image.split_once('@').map_or(image, |(named, _)| named);
    let last = named.rsplit('/').next().unwrap_or(named);
    last.split_once(':').map_or("unknown", |(_, tag)| tag)
}

fn skew(client: &str, programs: &[Running]) -> Vec<String> {
    let versions = |program: &str| -> BTreeSet<&str> {
        programs.iter().filter(|one| one.program == program).map(|one| one.version.as_str()).collect()
    };
    let (controller, plugin) = (versions(PROGRAMS[0]), versions(PROGRAMS[1]));
    let mut found = Vec::new();
    for (program, several) in PROGRAMS.into_iter().zip([&controller, &plugin]) {
        if several.len() > 1 {
            let all: Vec<&str> = several.iter().copied().collect();
            found.push(format!(
                "{program} runs in several versions: {} (an update under way?)",
                all.join(", ")
            ));
        }
    }
    if controller.len() == 1 && plugin.len() == 1 && controller != plugin {
        found.push("the controller and the nodes differ: update both, the controller first".to_owned());
    }
    // A tag need not be a version; then nothing is known, and nothing is claimed.
    for version in controller.union(&plugin) {
        if let (Some(theirs), Some(own)) = (minor(version), minor(client))
            && theirs != own
        {
            found.push(format!(
                "this command is {client}, the cluster has {version}: use the command of that release"
            ));
        }
    }
    found
}

/// Major and minor of a version.
fn minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_an_image_is_its_version() {
        for (image, version) in [
            ("ghcr.io/tierce-storage/tierce-csi:0.1.0", "0.1.0"),
            ("localhost:5000/tierce-csi:v1", "v1"),
            ("localhost:5000/tierce-csi", "unknown"),
            ("a/b:1.2@sha256:00", "1.2"),
            ("a/b@sha256:00", "unknown"),
        ] {
            assert_eq!(tag(image), version, "{image}");
        }
    }

    #[test]
    fn what_differs_is_said_and_what_is_no_version_is_not_compared() {
        let one = |program, version: &str, node: &str| Running {
            program,
            version: version.to_owned(),
            node: node.to_owned(),
            pod: format!("{program}-{node}"),
        };
        let all = |controller: &str, first: &str, second: &str| {
            [one(PROGRAMS[0], controller, "a"), one(PROGRAMS[1], first, "a"), one(PROGRAMS[1], second, "b")]
        };
        for (programs, words) in [
            (all("0.1.0", "0.1.0", "0.1.0"), vec![]),
            (all("0.1.3", "0.1.3", "0.1.3"), vec![]),
            (all("e2e-1f", "e2e-1f", "e2e-1f"), vec![]),
            (all("e2e-2", "e2e-1", "e2e-1"), vec!["differ"]),
            (all("0.1.0", "0.1.0", "0.1.1"), vec!["several versions: 0.1.0, 0.1.1"]),
            (all("0.2.0", "0.2.0", "0.2.0"), vec!["the cluster has 0.2.0"]),
        ] {
            let said = skew("0.1.0", &programs);
            assert_eq!(said.len(), words.len(), "{said:?}");
            assert!(said.iter().zip(&words).all(|(said, word)| said.contains(word)), "{said:?}");
        }
    }
}
