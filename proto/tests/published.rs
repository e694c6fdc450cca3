//! Our descriptors say the same as the published ones: message by message, field by field, options included.
//!
//! The published files come from the Go module cache; where Go or the modules are not to be had, those tests say
//! `skipped` and pass.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use protox::prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
};

/// Everything that a package says, one sentence per thing, so that a difference reads well.
fn facts(pool: &DescriptorPool, package: &str) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for message in pool.all_messages().filter(|m| m.package_name() == package) {
        message_facts(&message, &mut facts);
    }
    for declared in pool.all_enums().filter(|e| e.package_name() == package) {
        enum_facts(&declared, &mut facts);
    }
    for extension in pool.all_extensions().filter(|e| e.package_name() == package) {
        facts.insert(format!(
            "extend {} {{ {} {} = {} ({:?}) }}",
            extension.containing_message().full_name(),
            type_name(&extension.kind()),
            extension.full_name(),
            extension.number(),
            extension.cardinality(),
        ));
    }
    for service in pool.services().filter(|s| s.package_name() == package) {
        facts.insert(format!("service {}{}", service.full_name(), options(&service.options())));
        for method in service.methods() {
            facts.insert(format!(
                "rpc {}({}{}) returns ({}{}){}",
                method.full_name(),
                if method.is_client_streaming() { "stream " } else { "" },
                method.input().full_name(),
                if method.is_server_streaming() { "stream " } else { "" },
                method.output().full_name(),
                options(&method.options()),
            ));
        }
    }
    facts
}

fn message_facts(message: &MessageDescriptor, facts: &mut BTreeSet<String>) {
    if message.is_map_entry() {
        return; // part of the map field's type
    }
    let name = message.full_name();
    facts.insert(format!("message {name}{}", options(&message.options())));
    facts.extend(message.reserved_ranges().map(|range| format!("message {name} reserves {range:?}")));
    facts.extend(message.reserved_names().map(|reserved| format!("message {name} reserves {reserved}")));
    for field in message.fields() {
        facts.insert(format!(
            "field {} = {}: {}{}{}",
            field.full_name(),
            field.number(),
            field_type(&field),
            field.containing_oneof().map(|oneof| format!(" in oneof {}", oneof.name())).unwrap_or_default(),
            options(&field.options()),
        ));
    }
}

fn enum_facts(declared: &EnumDescriptor, facts: &mut BTreeSet<String>) {
    let name = declared.full_name();
    facts.insert(format!("enum {name}{}", options(&declared.options())));
    facts.extend(declared.reserved_ranges().map(|range| format!("enum {name} reserves {range:?}")));
    facts.extend(declared.reserved_names().map(|reserved| format!("enum {name} reserves {reserved}")));
    for value in declared.values() {
        facts.insert(format!(
            "value {name}.{} = {}{}",
            value.name(),
            value.number(),
            options(&value.options())
        ));
    }
}

fn field_type(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => format!(
            "map<{}, {}>",
            type_name(&entry.map_entry_key_field().kind()),
            type_name(&entry.map_entry_value_field().kind())
        ),
        kind => format!(
            "{:?} {}{}",
            field.cardinality(),
            type_name(&kind),
            if field.field_descriptor_proto().proto3_optional() { " with presence" } else { "" }
        ),
    }
}

fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(declared) => declared.full_name().to_owned(),
        scalar => format!("{scalar:?}"),
    }
}

fn options(options: &DynamicMessage) -> String {
    // The text of a message leaves out nothing that is set, extensions included.
    let text = options.to_string();
    if text.is_empty() { text } else { format!(" [{text}]") }
}

fn ours() -> DescriptorPool {
    DescriptorPool::decode(tierce_proto::FILE_DESCRIPTOR_SET).expect("our own descriptor set")
}

/// The folder of a module as one of our Go modules pins it, or why it is not to be had.
fn module_folder(tools: &str, module: &str) -> Result<PathBuf, String> {
    let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/tools").join(tools);
    let go = |arguments: &[&str]| {
        let output = Command::new("go")
            .args(arguments)
            .current_dir(&pins)
            .output()
            .map_err(|e| format!("cannot start go: {e}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    go(&["mod", "download", module])?;
    go(&["list", "-m", "-f", "{{.Dir}}", module]).map(PathBuf::from)
}

fn compare(package: &str, file: &str, module: Result<PathBuf, String>) {
    let folder = match module {
        Ok(folder) => folder,
        Err(reason) => {
            println!("skipped: comparison of {package} with the published {file}: {reason}");
            return;
        }
    };
    let mut compiler = protox::Compiler::new([&folder]).expect("the module's folder");
    compiler.include_imports(true).open_file(folder.join(file)).expect("the published file compiles");
    let published = facts(&compiler.descriptor_pool(), package);
    let ours = facts(&ours(), package);

    assert!(!published.is_empty(), "{file} holds nothing of {package}");
    let missing: Vec<_> = published.difference(&ours).collect();
    let surplus: Vec<_> = ours.difference(&published).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "only in the published file: {missing:#?}\nonly in ours: {surplus:#?}"
    );
    println!("{package}: {} facts agree with {file}", ours.len());
}

#[test]
fn csi_says_what_the_published_specification_says() {
    compare("csi.v1", "csi.proto", module_folder("spec", "github.com/container-storage-interface/spec"));
}

#[test]
fn plugin_registration_says_what_the_kubelet_says() {
    let file = "pkg/apis/pluginregistration/v1/api.proto";
    compare("pluginregistration", file, module_folder("kubernetes", "k8s.io/kubelet"));
}

/// Offers one source text under the name `t.proto`.
struct Text(String);

impl FileResolver for Text {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == "t.proto" {
            File::from_source(name, &self.0)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

fn facts_of(text: String) -> BTreeSet<String> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Text(text));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file("t.proto").expect("the text compiles");
    facts(&compiler.descriptor_pool(), "t")
}

#[test]
fn each_kind_of_difference_is_noticed() {
    let text = r#"
        syntax = "proto3";
        package t;
        import "google/protobuf/descriptor.proto";
        extend google.protobuf.FieldOptions { bool mark = 1059; }
        extend google.protobuf.EnumValueOptions { bool value_mark = 1060; }
        extend google.protobuf.MethodOptions { bool method_mark = 1060; }
        message M {
            string a = 1;
            map<string, string> b = 2 [(mark) = true];
            repeated string c = 3;
            oneof o { int32 d = 4; }
            E e = 5;
            reserved 9;
        }
        enum E { ZERO = 0; ONE = 1 [(value_mark) = true]; }
        service S {
            rpc Call(M) returns (stream M) { option (method_mark) = true; }
        }
    "#;
    let before = facts_of(text.to_owned());
    let changes = [
        ("string a = 1", "string a = 6"),
        ("string a = 1", "bytes a = 1"),
        ("string a = 1", "string z = 1"),
        ("string a = 1", "optional string a = 1"),
        ("map<string, string>", "map<string, int32>"),
        (" [(mark) = true]", ""),
        ("repeated string", "string"),
        ("oneof o", "oneof p"),
        ("oneof o { int32 d = 4; }", "int32 d = 4;"),
        ("reserved 9;", ""),
        ("ONE = 1", "ONE = 2"),
        ("ONE = 1", "TWO = 1"),
        (" [(value_mark) = true]", ""),
        ("(stream M)", "(M)"),
        ("rpc Call(M)", "rpc Call(stream M)"),
        ("option (method_mark) = true;", ""),
        ("bool mark = 1059", "bool mark = 1058"),
        ("extend google.protobuf.MethodOptions", "message N {} extend google.protobuf.MethodOptions"),
    ];
    for (from, to) in changes {
        let altered = text.replacen(from, to, 1);
        assert_ne!(altered, text, "{from} is in the text");
        assert_ne!(facts_of(altered), before, "{from} → {to}");
    }
}
