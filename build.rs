//! Tells the binary which compiler made it, and for what; `portcullis version` shows both.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let said = Command::new(rustc).arg("--version").output();
    let version = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    println!("cargo::rustc-env=PORTCULLIS_RUSTC={}", version.unwrap_or_default());
    println!("cargo::rustc-env=PORTCULLIS_TARGET={}", std::env::var("TARGET").unwrap_or_default());
}
