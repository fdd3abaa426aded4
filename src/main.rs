//! The `weir` command.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two providers are compiled in by different drivers, and rustls refuses to choose: first of all, this one. An error
    // means that one is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::main()
}
