//! Turns arguments into one call of the library, and its outcome into an exit code.

#![forbid(unsafe_code)]

mod catalog;
mod cli;
#[cfg(feature = "fake")]
mod demo;
mod estimate;
#[cfg(feature = "fake")]
mod fake_stripe;
mod import;
mod limits;
mod output;
mod progress;
mod resources;
mod schema;
mod setup;
mod signals;
mod sql;
mod sync;

use std::process::ExitCode;

use stripelake::config::key::refuse_keys_in_arguments;
use stripelake::error::{Error, Kind, Result};
use stripelake::redact::shown;

use crate::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let code = match run() {
        Ok(None) => output::lost().map_or(0, |error| failed(&error)),
        Ok(Some(kind)) => kind.exit_code(),
        Err(error) => failed(&error),
    };
    ExitCode::from(code as u8)
}

/// Shows the error, and says what the exit code is.
fn failed(error: &Error) -> i32 {
    output::error(error);
    error.kind().exit_code()
}

/// `Some(kind)` when the outcome has been shown and is not success.
fn run() -> Result<Option<Kind>> {
    let arguments: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    refuse_keys_in_arguments(arguments.iter().skip(1).map(String::as_str))?;
    let cli = Cli::of_process();
    for what in cli::mistyped_variables() {
        output::say(&format!("warning: {}", shown(&what, 200)));
    }
    let Cli { global, command } = cli;
    let closing_event = command.closing_event();
    let outcome = match command {
        #[cfg(feature = "fake")]
        Command::Demo(flags) => demo::run(&global, flags),
        Command::Sync(flags) => sync::run(&global, flags),
        Command::Import(flags) => import::run(&global, flags),
        Command::Resources(flags) => resources::run(&flags),
        Command::Schema(flags) => schema::run(&flags),
        Command::Sql(flags) => sql::run(&global, &flags),
        #[cfg(feature = "fake")]
        Command::FakeStripe(flags) => fake_stripe::run(flags),
        Command::Catalog(flags) => catalog::run(&flags),
    };
    if let (Some(event), Err(error)) = (closing_event, &outcome) {
        output::end_early(event, error);
    }
    outcome
}
