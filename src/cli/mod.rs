//! The command line: thin, one file a subcommand.

mod arguments;
mod changes;
mod check;
mod connectors;
mod copy;
mod job;
mod logging;
mod memory;
mod new;
mod output;
mod plan;
mod progress;
mod replay;
mod run;
mod runs;
mod signals;
mod style;
mod summary;
mod tables;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use weir::core::{Error, ErrorKind};

use arguments::{Arguments, Command};

/// How a command ends: an exit code, or an error that is shown and decides the code by its kind.
type Outcome = Result<u8, Error>;

/// Parses the call, runs the command, and turns its end into an exit code.
pub(crate) fn main() -> ExitCode {
    memory::set_up();
    let arguments = Arguments::parse();
    let code = match dispatch(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            style::show_error(&error);
            exit_code(&error)
        }
    };
    ExitCode::from(code)
}

fn dispatch(command: Command) -> Outcome {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Connectors(arguments) => connectors::connectors(&arguments),
        Command::Copy(arguments) => copy::copy(&arguments),
        Command::New(arguments) => new::new(&arguments),
        Command::Tables(arguments) => tables::tables(&arguments),
        Command::Runs(arguments) => runs::runs(&arguments),
        Command::Changes(arguments) => changes::changes(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Verify(arguments) => verify::verify(&arguments),
    }
}

/// 2 for what is known without connecting, else 1.
fn exit_code(error: &Error) -> u8 {
    if error.kind() == ErrorKind::Config { 2 } else { 1 }
}

/// The runtime that everything but the tasks runs on.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Io, "the machine gives no threads to work with").because(error))
}
