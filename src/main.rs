//! The `portcullis` binary.

use std::process::ExitCode;

/// Measured against the system's allocator on the proxy's own load; see ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::cli::main()
}
