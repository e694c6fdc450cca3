//! No message shows its secrets in `Debug`. The messages are found by walking the descriptor, so that one that CSI
//! adds can't be forgotten.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;

use prost::Message;
use protox::prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use tierce_proto::csi;

const SECRET_KEY: &str = "canary-key";
const SECRET_VALUE: &str = "canary-value";

/// Decodes bytes as one of our types and prints them with `{:?}` and `{:#?}`.
type Print = fn(&[u8]) -> String;

fn print<T: Message + Default + Debug>(bytes: &[u8]) -> String {
    let message = T::decode(bytes).expect("the descriptor describes this type");
    format!("{message:?}\n{message:#?}")
}

macro_rules! printers {
    ($($name:ident),* $(,)?) => {
        [$((concat!("csi.v1.", stringify!($name)), print::<csi::$name> as Print)),*]
    };
}

/// Descriptors know no Rust types, so the types stand here; the first test says which one is missing.
const PRINTERS: &[(&str, Print)] = &printers![
    ControllerExpandVolumeRequest,
    ControllerGetVolumeHealthRequest,
    ControllerListVolumeHealthRequest,
    ControllerModifyVolumeRequest,
    ControllerPublishVolumeRequest,
    ControllerUnpublishVolumeRequest,
    CreateSnapshotRequest,
    CreateVolumeGroupSnapshotRequest,
    CreateVolumeRequest,
    DeleteSnapshotRequest,
    DeleteVolumeGroupSnapshotRequest,
    DeleteVolumeRequest,
    GetMetadataAllocatedRequest,
    GetMetadataDeltaRequest,
    GetSnapshotRequest,
    GetVolumeGroupSnapshotRequest,
    ListSnapshotsRequest,
    NodeExpandVolumeRequest,
    NodeGetStorageHealthRequest,
    NodePublishVolumeRequest,
    NodeStageVolumeRequest,
    ValidateVolumeCapabilitiesRequest,
];

fn pool() -> DescriptorPool {
    DescriptorPool::decode(tierce_proto::FILE_DESCRIPTOR_SET).expect("our own descriptor set")
}

fn is_secret(field: &FieldDescriptor) -> bool {
    let mark = field.parent_pool().get_extension_by_name("csi.v1.csi_secret").expect("options.proto");
    *field.options().get_extension(&mark) == Value::Bool(true)
}

fn messages_with_secrets() -> Vec<MessageDescriptor> {
    pool().all_messages().filter(|message| message.fields().any(|field| is_secret(&field))).collect()
}

/// A message with canaries in its secret fields and the field's own name in every other string.
fn filled(message: &MessageDescriptor) -> DynamicMessage {
    let mut dynamic = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let shown = Value::String(format!("shown-{}", field.name()));
        let value = match field.kind() {
            _ if is_secret(&field) => {
                assert!(field.is_map(), "{}: the canary fits maps only", field.full_name());
                let entry = (MapKey::String(SECRET_KEY.into()), Value::String(SECRET_VALUE.into()));
                Value::Map(HashMap::from([entry]))
            }
            _ if field.is_map() => Value::Map(HashMap::from([(MapKey::String("key".into()), shown)])),
            Kind::String if field.is_list() => Value::List(vec![shown]),
            Kind::String => shown,
            _ => continue,
        };
        dynamic.set_field(&field, value);
    }
    dynamic
}

#[test]
fn every_message_with_a_secret_is_covered_by_the_next_test() {
    let walked: BTreeSet<String> = messages_with_secrets().iter().map(|m| m.full_name().to_owned()).collect();
    let listed: BTreeSet<String> = PRINTERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(walked, listed);
    assert!(walked.len() > 20, "CSI 1.13 has 22 of them");
}

#[test]
fn bug_17_debug_of_no_message_shows_a_secret() {
    for message in messages_with_secrets() {
        let name = message.full_name();
        let (_, print) = PRINTERS.iter().find(|(listed, _)| *listed == name).expect("covered");
        let text = print(&filled(&message).encode_to_vec());

        assert!(!text.contains("canary"), "{name} shows a secret: {text}");
        assert!(text.contains("secrets: <redacted>"), "{name} hides that there is a secret field: {text}");
        for field in message.fields().filter(|field| !is_secret(field)) {
            assert!(text.contains(&format!("{}: ", field.name())), "{name} hides {}: {text}", field.name());
            if matches!(field.kind(), Kind::String) {
                assert!(text.contains(&format!("\"shown-{}\"", field.name())), "{name}: {text}");
            }
        }
    }
}

#[test]
fn bug_17_debug_shows_no_service_account_tokens() {
    let request = csi::NodePublishVolumeRequest {
        volume_context: [
            ("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), SECRET_VALUE.to_owned()),
            ("csi.storage.k8s.io/pod.name".to_owned(), "web-0".to_owned()),
        ]
        .into(),
        ..Default::default()
    };
    let text = format!("{request:?}");
    assert!(!text.contains(SECRET_VALUE), "{text}");
    assert!(text.contains(r#""csi.storage.k8s.io/pod.name": "web-0""#), "{text}");
}
