//! What is kept of what somebody else wrote, and may have made as large as the API server takes it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What is kept of the metadata of an object that any user may write: labels, annotations, owners and finalizers of strangers can make up most
/// of a megabyte in each. Of the finalizers `ours` is kept, where it is there.
pub(in crate::index) fn named(meta: ObjectMeta, ours: &str) -> ObjectMeta {
    let finalizers = meta.finalizers.map(|mut all| {
        all.retain(|finalizer| finalizer == ours);
        all.shrink_to_fit();
        all
    });
    ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        generation: meta.generation,
        creation_timestamp: meta.creation_timestamp,
        deletion_timestamp: meta.deletion_timestamp,
        finalizers,
        ..ObjectMeta::default()
    }
}

/// The beginning of a text that somebody else wrote; longer ones tell nobody more.
pub(in crate::index) fn beginning(mut text: String) -> String {
    const MOST: usize = 1024;
    if text.len() > MOST {
        let end = (0..=MOST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
    text
}
