//! Compiles the files in `vendor/` without protoc: client and server code, the descriptor set, and a `Debug` that hides secrets
//! for each message with a `csi_secret` field.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor, MessageDescriptor, Value};

const CSI: &str = "csi.proto";
const REGISTRATION: &str = "api.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=vendor");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["vendor/csi", "vendor/pluginregistration"])?;
    compiler.include_imports(true).open_file(CSI)?.open_file(REGISTRATION)?;
    let pool = compiler.descriptor_pool();
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let secret = pool.get_extension_by_name("csi.v1.csi_secret").ok_or("csi.proto declares csi_secret")?;
    let with_secrets = messages_with_secrets(&pool, &secret);
    fs::write(out.join("debug.rs"), debug_impls(&with_secrets, &secret)?)?;

    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .btree_map(".")
        .skip_debug(with_secrets.iter().map(MessageDescriptor::full_name))
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn is_secret(field: &FieldDescriptor, secret: &ExtensionDescriptor) -> bool {
    matches!(*field.options().get_extension(secret), Value::Bool(true))
}

fn messages_with_secrets(pool: &DescriptorPool, secret: &ExtensionDescriptor) -> Vec<MessageDescriptor> {
    pool.all_messages().filter(|m| m.fields().any(|f| is_secret(&f, secret))).collect()
}

/// `impl Debug` for the given messages. Only shapes that CSI has are known; another one stops the build, so that it
/// gets a decision instead of a wrong guess.
fn debug_impls(
    messages: &[MessageDescriptor],
    secret: &ExtensionDescriptor,
) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    for message in messages {
        let name = message.name();
        if message.parent_message().is_some() || message.oneofs().len() > 0 {
            return Err(format!("{name}: a nested message, or one with a oneof, now holds secrets").into());
        }
        writeln!(code, "impl ::core::fmt::Debug for {name} {{")?;
        writeln!(code, "    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{")?;
        writeln!(code, "        f.debug_struct(\"{name}\")")?;
        for field in message.fields() {
            let field_name = field.name();
            let shown = if is_secret(&field, secret) {
                "crate::redact::Redacted".to_owned()
            } else if field_name == "volume_context" {
                format!("crate::redact::VolumeContext(&self.{field_name})")
            } else {
                format!("self.{field_name}")
            };
            writeln!(code, "            .field(\"{field_name}\", &{shown})")?;
        }
        writeln!(code, "            .finish()\n    }}\n}}\n")?;
    }
    Ok(code)
}
