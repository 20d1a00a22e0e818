//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    for folder in ["keyvault/v1", "keyvault/local/v1"] {
        for entry in fs::read_dir(folder)? {
            files.push(entry?.path());
        }
    }
    files.sort();
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // What opens a backup comes into no log: `src/redacted.rs` says what is shown of it.
    let code = tonic_prost_build::configure().skip_debug(["keyvault.v1.RestoreBegin"]);
    code.compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=keyvault");
    Ok(())
}
