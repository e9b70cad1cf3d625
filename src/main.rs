//! The `portcullis` binary.

use std::process::ExitCode;

/// Chosen for many small allocations on threads that keep to themselves; not yet measured against
/// the system's allocator on the proxy's own load.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::cli::main()
}
