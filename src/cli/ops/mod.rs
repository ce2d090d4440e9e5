//! The verbs of those who run a daemon: what a configuration changes, waiting, checks, analysis, and
//! what shells, manuals and other programs want to know of the command line itself.

pub(crate) mod arguments;

mod analyze;
mod check;
mod doctor;
mod guide;
mod plan;
mod shells;
mod wait;

use std::path::PathBuf;

use crate::cli::arguments::Common;
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::ops::arguments::OpsVerb;
use crate::cli::session::Session;
use crate::config::Environment;

pub(crate) use crate::cli::ops::guide::command;
pub(crate) use crate::cli::ops::plan::done as reloaded;

/// Does what needs no daemon, or may find none.
///
/// # Errors
///
/// As the verb says; `None` when the verb is one that asks the daemon.
pub(crate) fn alone(
    console: &mut Console,
    common: &Common,
    verb: &OpsVerb,
    environment: &Environment,
) -> Option<Result<Exit, Failure>> {
    match verb {
        OpsVerb::Completions(arguments) => Some(shells::completions(console, common, arguments)),
        OpsVerb::Man(arguments) => Some(shells::man(console, common, arguments)),
        OpsVerb::Commands => Some(guide::commands(console, common)),
        OpsVerb::Doctor(files) => Some(doctor::doctor(console, common, &files.files, environment)),
        OpsVerb::Plan(_)
        | OpsVerb::Apply(_)
        | OpsVerb::Wait(_)
        | OpsVerb::Analyze(_)
        | OpsVerb::Check(_) => None,
    }
}

/// Does what asks the daemon.
///
/// # Errors
///
/// No answer came, or the daemon refused.
pub(crate) async fn ask(session: &mut Session<'_>, verb: &OpsVerb) -> Result<Exit, Failure> {
    match verb {
        OpsVerb::Plan(arguments) => plan::plan(session, arguments).await,
        OpsVerb::Apply(arguments) => plan::apply(session, arguments).await,
        OpsVerb::Wait(arguments) => wait::wait(session, arguments).await,
        OpsVerb::Analyze(arguments) => analyze::analyze(session, arguments).await,
        OpsVerb::Check(arguments) => check::check(session, arguments).await,
        // Done alone.
        OpsVerb::Doctor(_) | OpsVerb::Completions(_) | OpsVerb::Man(_) | OpsVerb::Commands => {
            Ok(Exit::Done)
        }
    }
}

/// What has no daemon to ask may be an answer all the same.
///
/// # Errors
///
/// Any other failure stays one.
pub(crate) fn settled(
    console: &mut Console,
    verb: &OpsVerb,
    done: Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    match (verb, done) {
        (OpsVerb::Check(arguments), Err(failure)) => check::unknown(console, arguments, failure),
        (_, done) => done,
    }
}

/// The configuration files that a verb names.
pub(crate) fn files_of(verb: &OpsVerb) -> &[PathBuf] {
    match verb {
        OpsVerb::Plan(arguments) => &arguments.at.files,
        OpsVerb::Apply(arguments) => &arguments.at.files,
        OpsVerb::Wait(arguments) => &arguments.at.files,
        OpsVerb::Analyze(arguments) => &arguments.at.files,
        OpsVerb::Check(arguments) => &arguments.at.files,
        OpsVerb::Doctor(files) => &files.files,
        OpsVerb::Completions(_) | OpsVerb::Man(_) | OpsVerb::Commands => &[],
    }
}
