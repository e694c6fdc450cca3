//! What is remembered of every object that a node carries out.

use super::trimmed::{beginning, short};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tierce_crds::{conditions, names};

/// What is remembered of every object that a node carries out.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Name: the CSI id of the volume or snapshot.
    pub id: String,
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Node.
    pub node: String,
    /// `StoragePool`.
    pub pool: String,
    /// When the object was made.
    pub created: Option<Timestamp>,
    /// When it was told to go.
    pub deleting_since: Option<Timestamp>,
    /// Whether the node may still have something of it.
    pub on_node: bool,
    /// What the node says of the present spec; `None` while it says nothing yet.
    pub word: Option<NodeWord>,
}

impl Placed {
    /// Of an object with this metadata, for this node and pool, of which the node says this.
    pub(in crate::index) fn of(
        meta: ObjectMeta,
        place: (String, String),
        said: (&[Condition], Option<i64>),
    ) -> Self {
        let ((node, pool), (conditions, observed)) = (place, said);
        Self {
            word: NodeWord::of(conditions, observed, meta.generation),
            on_node: meta.finalizers.iter().flatten().any(|f| f == names::FINALIZER_ON_NODE),
            id: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            node,
            pool,
            created: meta.creation_timestamp.map(|t| t.0),
            deleting_since: meta.deletion_timestamp.map(|t| t.0),
        }
    }
}

/// The `Ready` condition of a `NodeVolume` or `NodeSnapshot`, of the present generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWord {
    /// Whether it is as asked.
    pub ready: bool,
    /// Constant of [`conditions::node_volume`] or [`conditions::node_snapshot`].
    pub reason: String,
    /// For people.
    pub message: String,
}

impl NodeWord {
    /// What these conditions say under this type, of whatever generation.
    pub(super) fn under(type_: &str, conditions: &[Condition]) -> Option<Self> {
        conditions::find(conditions, type_).map(|condition| Self {
            ready: condition.status == "True",
            reason: short(condition.reason.clone()),
            message: beginning(condition.message.clone()),
        })
    }

    /// What these conditions say, if they speak of this generation of the spec.
    fn of(conditions: &[Condition], observed: Option<i64>, generation: Option<i64>) -> Option<Self> {
        let ready = conditions::find(conditions, conditions::READY)?;
        (ready.observed_generation.or(observed) == generation).then(|| Self {
            ready: ready.status == "True",
            reason: short(ready.reason.clone()),
            message: beginning(ready.message.clone()),
        })
    }
}
