//! What the tests of every kind start with.

use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An object with this spec, as the API server hands it out.
pub(crate) fn object<K: Resource<DynamicType = ()> + DeserializeOwned>(name: &str, spec: &Value) -> K {
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name, "namespace": "ada"}, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}
