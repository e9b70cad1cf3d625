//! The `portcullis` binary.

use std::process::ExitCode;

/// A few percent cheaper than glibc's for HTTP/2, even for HTTP/1; figures in ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::cli::main()
}
