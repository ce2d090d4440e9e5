//! Not yet.

use std::ffi::OsString;
use std::process::ExitCode;

/// The hidden subcommand of the same binary.
pub const SUBCOMMAND: &str = "keeper";

/// Runs the keeper.
pub fn main(_arguments: impl Iterator<Item = OsString>) -> ExitCode {
    ExitCode::FAILURE
}
