//! What a test works with: a namespace of its own on a cluster with Tierce installed, changed through `kubectl`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cluster::audit::Mark;
use crate::cluster::{Cluster, JsonPath, Node, Until, cleanup};
use crate::install::NAMESPACE;
use crate::{command, images};

/// How long anything may take on a busy machine of two cores, and in a guest there, where it takes several times that.
const PATIENCE: Duration = Duration::from_secs(90);
const PATIENCE_WITH_GUESTS: Duration = Duration::from_mins(5);
/// Between two looks, the first and those after a while: each look is some programs, on a machine that has enough to do.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Lists what volumes leave in volume groups and in device-mapper: theirs, those on their way in or out, and mappers of
/// encrypted ones.
const OF_LVM: &str = "lvs --noheadings --options vg_name,lv_name --select 'lv_name=~^[vdn]-' 2>/dev/null || true; \
                      dmsetup ls --target crypt | grep tierce || true";

/// Lists the threads of the kernel's NFS server, which is there for shared volumes alone.
const SERVERS: &str = "pgrep -l -x nfsd || true";

/// Why a test can't be run on this machine.
#[derive(Debug)]
pub struct Skip(pub String);

impl std::fmt::Display for Skip {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// A namespace on the cluster, and the ways to use it.
pub struct Bed<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Our images, to install other values or another release.
    pub images: &'a images::ours::Ours,
    /// Where the audit log of this run begins.
    pub audit: &'a Mark,
    /// The namespace of this test.
    pub namespace: String,
}

impl Bed<'_> {
    /// How long anything may take on these nodes.
    pub fn patience(&self) -> Duration {
        if self.cluster.spec().size.guests > 0 { PATIENCE_WITH_GUESTS } else { PATIENCE }
    }

    /// `kubectl` in the test's namespace; returns stdout.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut kubectl = self.cluster.command("kubectl")?;
        command::run(kubectl.args(["--namespace", &self.namespace]).args(arguments))
    }

    /// Creates or changes an object.
    pub fn apply(&self, object: impl Into<Value>) -> Result<()> {
        let object: Value = object.into();
        let mut kubectl = self.cluster.command("kubectl")?;
        kubectl.args(["--namespace", &self.namespace, "apply", "-f", "-"]);
        command::run_with_input(&mut kubectl, object.to_string().as_bytes()).map(drop)
    }

    /// Applies an object that must be refused; returns the API server's words.
    pub fn refused(&self, object: impl Into<Value>) -> Result<String> {
        let object: Value = object.into();
        match self.apply(object.clone()) {
            Ok(()) => bail!("accepted: {object}"),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    /// Merges into an object.
    pub fn patch(&self, object: &str, change: &Value) -> Result<()> {
        self.kubectl(&["patch", object, "--type=merge", "--patch", &change.to_string()]).map(drop)
    }

    /// Deletes an object and waits until it is gone.
    pub fn delete(&self, object: &str) -> Result<()> {
        let timeout = format!("--timeout={}s", self.patience().as_secs());
        self.kubectl(&["delete", object, &timeout]).map(drop)
    }

    /// A field of an object by its `JSONPath`; empty when it is not there.
    pub fn get(&self, object: &str, path: &str) -> Result<String> {
        let path = JsonPath::parse(path)?;
        let found = self.cluster.reader()?.get(&self.namespace, object)?;
        Ok(found.map(|found| path.text(&found)).unwrap_or_default())
    }

    /// Waits for what `kubectl wait --for` waits for, on a watch; for an object that is not there yet too.
    pub fn wait(&self, object: &str, what: &str) -> Result<()> {
        let (until, patience) = (Until::parse(what)?, self.patience());
        if self.cluster.reader()?.wait(&self.namespace, object, until, patience)? {
            return Ok(());
        }
        let shown = self.kubectl(&["describe", object]).unwrap_or_default();
        // The events come last.
        let lines: Vec<&str> = shown.lines().collect();
        let end = lines[lines.len().saturating_sub(12)..].join("\n");
        let patience = patience.as_secs();
        bail!("waited {patience} s for {what} of {object}; the end of `kubectl describe {object}`:\n{end}")
    }

    /// Waits until a pod is Ready.
    pub fn wait_ready(&self, pod: &str) -> Result<()> {
        self.wait(&format!("pod/{pod}"), "condition=Ready")
    }

    /// Waits until the reason of an object's `Ready` condition is this one; returns its message.
    pub fn wait_reason(&self, object: &str, reason: &str) -> Result<String> {
        let path = r#".status.conditions[?(@.type=="Ready")]"#;
        self.wait(object, &format!("jsonpath={{{path}.reason}}={reason}"))?;
        self.get(object, &format!("{path}.message"))
    }

    /// Asks again and again, for what no single watch tells.
    pub fn until(&self, what: &str, done: impl Fn() -> Result<bool>) -> Result<()> {
        self.until_within(self.patience(), what, done)
    }

    /// The same, for what takes longer than anything should.
    pub fn until_within(
        &self,
        patience: Duration,
        what: &str,
        done: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        loop {
            match done() {
                Ok(true) => return Ok(()),
                last if Instant::now() > deadline => {
                    return last
                        .and(Ok(()))
                        .and_then(|()| bail!("waited {} s for {what}", patience.as_secs()));
                }
                _ => std::thread::sleep(pause),
            }
            pause = (pause + FIRST_PAUSE / 2).min(LONGEST_PAUSE);
        }
    }

    /// Runs a shell script in a pod; returns stdout.
    pub fn exec(&self, pod: &str, script: &str) -> Result<String> {
        Ok(self.kubectl(&["exec", pod, "--", "sh", "-c", script])?.trim_end().to_owned())
    }

    /// Runs a shell script on a node; returns stdout.
    pub fn on_node(&self, node: Node, script: &str) -> Result<String> {
        let mut shell = self.cluster.on_node(node, "sh")?;
        Ok(command::run(shell.args(["-c", script]))?.trim_end().to_owned())
    }

    /// The node of a pod.
    pub fn node_of(&self, pod: &str) -> Result<Node> {
        Node::parse(&self.get(&format!("pod/{pod}"), ".spec.nodeName")?)
    }

    /// Applies a pod and waits until it is Ready.
    pub fn start(&self, pod: Pod) -> Result<()> {
        let name = pod.name.clone();
        self.apply(pod)?;
        self.wait_ready(&name)
    }

    /// Everything that still speaks of a volume, on the API server, on the nodes' disks and in the kernel.
    pub fn remains(&self) -> Result<Vec<String>> {
        let kinds = [
            "volumes",
            "sharedvolumes",
            "pvc",
            "pv",
            "nodevolumes",
            "nodesnapshots",
            "volumesnapshotcontents",
        ];
        let reader = self.cluster.reader()?;
        let mut found = reader.names(&kinds, None)?;
        let loops = cleanup::loops_below(self.cluster.state().path(), &cleanup::loops()?);
        found.extend(loops.into_iter().map(|one| format!("{} over {:?}", one.name.display(), one.file)));
        for node in self.cluster.nodes() {
            let name = node.name();
            let files = self.on_node(node, "find /var/lib/tierce/pools -name '*.img' 2>/dev/null || true")?;
            found.extend(files.lines().map(|file| format!("{name}: {file}")));
            let mounts = self.on_node(node, "grep csi.tierce.dev /proc/self/mountinfo || true")?;
            found.extend(mounts.lines().map(|mount| format!("{name}: {mount}")));
            if self.cluster.spec().size.is_guest(node) {
                let servers = self.on_node(node, SERVERS)?;
                found.extend(servers.lines().map(|thread| format!("{name}: {thread}")));
                let devices = self.on_node(node, OF_LVM)?;
                found.extend(devices.lines().map(|device| format!("{name}: {}", device.trim())));
            }
        }
        let secrets = reader.names(&["secrets"], Some(NAMESPACE))?;
        found.extend(secrets.into_iter().filter(|name| name.contains("tierce-key-")));
        Ok(found)
    }

    /// Waits until nothing of any volume is left.
    pub fn until_nothing_is_left(&self) -> Result<()> {
        self.until("nothing to be left", || Ok(self.remains()?.is_empty())).with_context(|| {
            format!("still there: {}", self.remains().map(|left| left.join(", ")).unwrap_or_default())
        })
    }

    /// Fails unless a text holds all of these parts.
    pub fn says(&self, text: &str, parts: &[&str]) -> Result<()> {
        for part in parts {
            ensure!(text.contains(part), "`{part}` is missing in: {text}");
        }
        Ok(())
    }
}

/// A Volume with a name and a spec.
pub fn volume(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume",
        "metadata": {"name": name}, "spec": spec,
    })
}

/// A claim on a StorageClass, without a Volume.
pub fn claim(name: &str, class: &str, size: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": size}},
        },
    })
}

/// A pod of a shell that runs a script and then stays.
#[derive(Clone)]
pub struct Pod {
    name: String,
    script: String,
    claims: Vec<String>,
    devices: Vec<String>,
    node: Option<String>,
}

impl Pod {
    /// A pod that stays.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            script: "true".to_owned(),
            claims: Vec::new(),
            devices: Vec::new(),
            node: None,
        }
    }

    /// Runs this before it is Ready.
    #[must_use]
    pub fn runs(mut self, script: &str) -> Self {
        script.clone_into(&mut self.script);
        self
    }

    /// Mounts a claim at `/<claim>`.
    #[must_use]
    pub fn mounts(mut self, claim: &str) -> Self {
        self.claims.push(claim.to_owned());
        self
    }

    /// Has a claim's raw device at `/dev/<claim>`.
    #[must_use]
    pub fn has_device(mut self, claim: &str) -> Self {
        self.devices.push(claim.to_owned());
        self
    }

    /// Is scheduled to this node only.
    #[must_use]
    pub fn on(mut self, node: Node) -> Self {
        self.node = Some(node.name());
        self
    }
}

impl From<Pod> for Value {
    fn from(pod: Pod) -> Self {
        let entry = |claim: &String| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
        let mut spec = json!({
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": images::BUSYBOX,
                "command": ["sh", "-c", format!("set -e\n{}\ntouch /tmp/done\nexec sleep 100000", pod.script)],
                "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/done"]}, "periodSeconds": 1},
                "volumeMounts": pod.claims.iter()
                    .map(|claim| json!({"name": claim, "mountPath": format!("/{claim}")})).collect::<Vec<_>>(),
                "volumeDevices": pod.devices.iter()
                    .map(|claim| json!({"name": claim, "devicePath": format!("/dev/{claim}")})).collect::<Vec<_>>(),
            }],
            "volumes": pod.claims.iter().chain(&pod.devices).map(entry).collect::<Vec<_>>(),
        });
        if let Some(node) = pod.node {
            spec["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        }
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod.name}, "spec": spec})
    }
}
