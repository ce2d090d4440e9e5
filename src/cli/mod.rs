//! The command line: what people type and what they see.
//!
//! A verb is typed (`arguments`), finds the daemon (`find`), asks it (`session` over a `client`),
//! and shows the answer (`output` on a `console`). Standard output is data, standard error is
//! messages; there is no pager and no prompt. What does not work is a `failure` with a code, a
//! cause and a next step, and ends in one of the exit codes of `exit`.
//!
//! Not here: any decision, and anything that other programs than the command line need.

mod exit;
mod failure;

mod human;
mod values;

mod alert_arguments;
mod arguments;
mod colors;
mod console;
mod downstream_arguments;
mod look_arguments;
mod output;
mod work_arguments;

mod client;
mod dlq;
mod find;
mod nats_client;
mod session;

mod tasks;

mod ops;
#[cfg(feature = "tui")]
mod top;

mod agent_view;
mod agents;
mod alerts;
mod downstreams;
mod errors;
mod event_text;
mod events;
mod log_files;
mod logs;
mod route;
mod system;
mod watch;

mod at;
mod cause;
mod explain;
mod insight;
mod past;
mod show;

pub mod demo;

mod circuit_replay;
mod config_verbs;
mod foreground;
mod ticker;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod verbs;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::FromArgMatches as _;
use clap::error::ErrorKind;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::cli::agents::Act;
use crate::cli::arguments::{
    ActArguments, Arguments, CircuitArguments, CircuitVerb, ColorWhen, Common, DemoArguments,
    LogsArguments, SystemVerb, Verb,
};
use crate::cli::console::Console;
use crate::cli::demo::DemoOptions;
use crate::cli::failure::{Failure, Fault};
use crate::cli::look_arguments::{EventsArguments, StatusArguments, When};
use crate::cli::nats_client::NatsClient;
use crate::cli::output::Page;
use crate::cli::session::Session;
use crate::cli::tasks::arguments::{TaskArguments, TaskVerb};
use crate::cli::work_arguments::{DlqArguments, RouteVerb};
use crate::config::Environment;
use crate::protocol::command::{CircuitRequest, ControlCommand, EmptyRequest};
use crate::protocol::reload::ReloadRequest;
use crate::transport::connect::Connection;

pub use crate::cli::errors::reference as error_reference;
pub use crate::cli::exit::Exit;

/// What to try first, for whoever types the bare name.
const HELLO: &str = "\
provost keeps workers and the services they lean on alive. Try one of these:

  provost run -- CMD…      supervise a program of your own; no configuration needed
  provost up -f FILE       start the daemon with the agents that a file declares
  provost help             see all commands";

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os(), &Environment::read()).into()
}

/// Runs one command line in one environment.
fn run(words: impl IntoIterator<Item = OsString>, environment: &Environment) -> Exit {
    let parsed = ops::command()
        .try_get_matches_from(words)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return not_parsed(&error),
    };
    let common = arguments.common;
    let mut console = Console::of_process(common.color);
    let done = match arguments.verb {
        None => console.line(HELLO).map(|()| Exit::Done),
        Some(verb) => act(&mut console, &common, verb, environment),
    };
    done.and_then(|exit| console.flush().map(|()| exit)).unwrap_or_else(|failure| {
        console.failure(&failure);
        failure.exit
    })
}

/// Help and version are what was asked for; all else is wrong usage.
fn not_parsed(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        // A reader that has gone is no failure.
        error.print().unwrap_or_default();
        return Exit::Done;
    }
    let failure = usage(error);
    Console::of_process(ColorWhen::Auto).failure(&failure);
    failure.exit
}

fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let text = text.split("\n\nFor more information").next().unwrap_or_default().trim_end();
    let message = if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        format!("a command is missing\n\n{text}")
    } else {
        text.strip_prefix("error: ").unwrap_or(text).to_owned()
    };
    Failure::new(Fault::Usage, message, "add --help to see how the command is used")
}

/// Does what a verb says: here, in the foreground, or by asking the daemon.
fn act(
    console: &mut Console,
    common: &Common,
    verb: Verb,
    environment: &Environment,
) -> Result<Exit, Failure> {
    match verb {
        Verb::Run(arguments) => foreground::run(console, common, &arguments, environment),
        Verb::Up(arguments) => foreground::up(console, common, &arguments, environment),
        Verb::Config(arguments) => {
            config_verbs::config(console, common, &arguments.verb, environment)
        }
        Verb::Flags(files) => config_verbs::flags(console, common, &files.files, environment),
        Verb::Version => version(console, common),
        Verb::Error(arguments) => errors::error(console, common.output, arguments.code.as_deref()),
        Verb::Explain(arguments) => insight::explain(console, common, &arguments, environment),
        Verb::Show(arguments) => insight::show(console, common, &arguments, environment),
        Verb::Circuit(CircuitArguments { verb: Some(CircuitVerb::Replay(arguments)), .. }) => {
            circuit_replay::replay(console, common, &arguments, environment)
        }
        Verb::Demo(DemoArguments { config, seconds }) => {
            Ok(demo::demo(&DemoOptions { config, seconds }))
        }
        verb @ (Verb::Spawn(_)
        | Verb::List(_)
        | Verb::Tree(_)
        | Verb::Status(_)
        | Verb::Stop(_)
        | Verb::Restart(_)
        | Verb::Kill(_)
        | Verb::Drain(_)
        | Verb::Resume(_)
        | Verb::Reset(_)
        | Verb::Remove(_)
        | Verb::Circuit(_)
        | Verb::Downstream(_)
        | Verb::System(_)
        | Verb::Route(_)
        | Verb::Alert(_)
        | Verb::Events(_)) => with_daemon(console, common, verb, environment),
        Verb::Ops(verb) => match ops::alone(console, common, &verb, environment) {
            Some(done) => done,
            None => {
                let done = with_daemon(console, common, Verb::Ops(verb.clone()), environment);
                ops::settled(console, &verb, done)
            }
        },
        Verb::Dlq(arguments) => dead_letters(console, common, &arguments, environment),
        Verb::Logs(arguments) => logs(console, common, arguments, environment),
        #[cfg(feature = "tui")]
        Verb::Top(at) => top::top(console, common, &at, environment),
        Verb::Task(arguments) => task(console, common, arguments, environment),
    }
}

fn version(console: &mut Console, common: &Common) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let text = vec![format!("provost {version}")];
    let page = Page::single("provost", json!({"name": "provost", "version": version}), text);
    page.print(console, common.output)?;
    Ok(Exit::Done)
}

/// Finds the daemon, connects, asks, closes. Ctrl-C ends it at any point.
fn with_daemon(
    console: &mut Console,
    common: &Common,
    verb: Verb,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let settings = find::find(common, files_of(&verb), environment, console)?;
    let runtime = runtime()?;
    let asking = async {
        let client = NatsClient::open(&settings).await?;
        let mut session = session_over(&client, common);
        let done = ask(&mut session, verb).await;
        client.close().await;
        done
    };
    runtime.block_on(async {
        tokio::select! {
            // Dropped as a whole on Ctrl-C: what was asked of the daemon goes on there.
            done = Box::pin(asking) => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::quiet(Exit::Interrupted)),
        }
    })
}

fn session_over<'a>(client: &'a NatsClient, common: &Common) -> Session<'a> {
    Session {
        client,
        console: Console::of_process(common.color),
        format: common.output,
        timeout: common.timeout,
        clock: Timestamp::now,
        zone: TimeZone::system(),
    }
}

/// Does something with tasks: over NATS, whether or not a daemon answers.
fn task(
    console: &mut Console,
    common: &Common,
    TaskArguments { verb }: TaskArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let settings = find::find(common, files_of_task(&verb), environment, console)?;
    let asking = async {
        let client = NatsClient::open(&settings).await?;
        let connection = client.connection().clone();
        let done = tasks::task(connection, console, common, verb).await;
        client.close().await;
        done
    };
    runtime()?.block_on(async {
        tokio::select! {
            // Dropped as a whole on Ctrl-C: what was submitted goes on.
            done = Box::pin(asking) => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::quiet(Exit::Interrupted)),
        }
    })
}

/// Works on the stream of dead letters itself; no daemon is needed.
fn dead_letters(
    console: &mut Console,
    common: &Common,
    arguments: &DlqArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let settings = find::find(common, &arguments.at.files, environment, console)?;
    let runtime = runtime()?;
    let working = async {
        let connection = Connection::open(&settings).await;
        let connection =
            connection.map_err(|error| nats_client::unreachable_nats(&settings, &error))?;
        let done = dlq::dlq(console, common.output, &connection, &arguments.verb).await;
        connection.close().await;
        done
    };
    runtime.block_on(async {
        tokio::select! {
            // Dropped on Ctrl-C: what was sent again is out of the stream or sent once only.
            done = Box::pin(working) => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::quiet(Exit::Interrupted)),
        }
    })
}

fn files_of_task(verb: &TaskVerb) -> &[PathBuf] {
    let at = match verb {
        TaskVerb::Submit(arguments) | TaskVerb::Run(arguments) => &arguments.at,
        TaskVerb::List(arguments) => &arguments.at,
        TaskVerb::Show(arguments) | TaskVerb::Watch(arguments) | TaskVerb::Result(arguments) => {
            &arguments.at
        }
        TaskVerb::Cancel(arguments) => &arguments.at,
        TaskVerb::Retry(arguments) => &arguments.at,
        TaskVerb::Audit(arguments) => &arguments.at,
    };
    &at.files
}

/// Reads a log where its file is, else asks the daemon.
fn logs(
    console: &mut Console,
    common: &Common,
    arguments: LogsArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    output::refuse_names("a log", common.output)?;
    let folders = find::state_dirs(common, &arguments.files, environment, console)?;
    let file = folders.iter().find_map(|folder| log_files::log_file(folder, &arguments.agent));
    let Some(file) = file else {
        if arguments.previous || arguments.since.is_some() {
            let message = format!("no log of {} is on this machine", arguments.agent);
            let next = "--previous and --since read the log files; run it where the daemon runs, \
                        or say where its state folder is with --state-dir";
            return Err(Failure::new(Fault::Usage, message, next));
        }
        return with_daemon(console, common, Verb::Logs(arguments), environment);
    };
    let runtime = runtime()?;
    let showing =
        log_files::show(console, common.output, &arguments, (file.as_path(), Timestamp::now()));
    runtime.block_on(async {
        tokio::select! {
            // Dropped on Ctrl-C: what was read is printed.
            done = Box::pin(showing) => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::quiet(Exit::Interrupted)),
        }
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| {
        Failure::new(Fault::OutputFailed, "no runtime can be started", "check ulimit -n")
            .caused_by(&error)
    })
}

/// The configuration files that a verb names.
fn files_of(verb: &Verb) -> &[PathBuf] {
    match verb {
        Verb::Run(_) | Verb::Version | Verb::Config(_) | Verb::Demo(_) | Verb::Error(_) => &[],
        Verb::Up(arguments) => &arguments.config.files,
        Verb::Flags(files) => &files.files,
        Verb::Spawn(arguments) => &arguments.at.files,
        Verb::List(arguments) => &arguments.at.files,
        Verb::Tree(arguments) => &arguments.at.files,
        Verb::Show(arguments) => &arguments.at.files,
        Verb::Explain(arguments) => &arguments.at.files,
        Verb::Status(arguments) => &arguments.at.files,
        Verb::Stop(arguments)
        | Verb::Restart(arguments)
        | Verb::Kill(arguments)
        | Verb::Drain(arguments)
        | Verb::Resume(arguments)
        | Verb::Reset(arguments)
        | Verb::Remove(arguments) => &arguments.at.files,
        Verb::Circuit(CircuitArguments { verb: Some(CircuitVerb::List(arguments)), .. }) => {
            &arguments.at.files
        }
        Verb::Circuit(arguments) => &arguments.at.files,
        Verb::Downstream(arguments) => &arguments.verb.at().files,
        Verb::System(arguments) => match &arguments.verb {
            SystemVerb::Pause(files)
            | SystemVerb::Resume(files)
            | SystemVerb::Drain(files)
            | SystemVerb::Reload(files)
            | SystemVerb::Shutdown(files) => &files.files,
        },
        Verb::Route(arguments) => match &arguments.verb {
            RouteVerb::Test(arguments) => &arguments.at.files,
        },
        Verb::Alert(arguments) => &arguments.verb.at().files,
        Verb::Ops(verb) => ops::files_of(verb),
        Verb::Dlq(arguments) => &arguments.at.files,
        Verb::Events(arguments) => &arguments.at.files,
        Verb::Logs(arguments) => &arguments.files,
        #[cfg(feature = "tui")]
        Verb::Top(at) => &at.files,
        Verb::Task(arguments) => files_of_task(&arguments.verb),
    }
}

/// Does a verb by asking the daemon.
async fn ask(session: &mut Session<'_>, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Spawn(arguments) => agents::spawn(session, arguments).await,
        Verb::List(arguments) if arguments.watch => watch::watch(session).await,
        Verb::List(arguments) => match arguments.when.at {
            Some(moment) => at::list(session, moment).await,
            None => agents::list(session).await,
        },
        Verb::Tree(arguments) => match arguments.when.at {
            Some(moment) => at::tree(session, moment).await,
            None => system::tree(session).await,
        },
        Verb::Status(StatusArguments { when: When { at: Some(moment) }, agents, .. }) => {
            at::status(session, &agents, moment).await
        }
        Verb::Status(arguments) if arguments.agents.is_empty() => system::status(session).await,
        Verb::Status(arguments) => {
            let asked = ActArguments {
                at: arguments.at,
                agents: arguments.agents,
                grace: None,
                reason: None,
            };
            agents::act(session, Act::Status, &asked).await
        }
        Verb::Stop(arguments) => agents::act(session, Act::Stop, &arguments).await,
        Verb::Restart(arguments) => agents::act(session, Act::Restart, &arguments).await,
        Verb::Kill(arguments) => agents::act(session, Act::Kill, &arguments).await,
        Verb::Drain(arguments) => agents::act(session, Act::Drain, &arguments).await,
        Verb::Resume(arguments) => agents::act(session, Act::Resume, &arguments).await,
        Verb::Reset(arguments) => agents::act(session, Act::Reset, &arguments).await,
        Verb::Remove(arguments) => agents::act(session, Act::Remove, &arguments).await,
        Verb::Circuit(CircuitArguments { child: Some(child), set: Some(set), .. }) => {
            agents::circuit(session, CircuitRequest { child, set: set.into() }).await
        }
        Verb::Circuit(CircuitArguments { verb: Some(CircuitVerb::List(arguments)), .. }) => {
            at::circuits(session, arguments.when.at).await
        }
        Verb::Downstream(arguments) => downstreams::downstream(session, arguments.verb).await,
        Verb::Ops(verb) => ops::ask(session, &verb).await,
        Verb::System(arguments) => system::control(session, &control_of(&arguments.verb)).await,
        Verb::Route(arguments) => match arguments.verb {
            RouteVerb::Test(arguments) => route::test(session, arguments).await,
        },
        Verb::Alert(arguments) => alerts::alert(session, arguments.verb).await,
        Verb::Events(EventsArguments { cause: Some(id), .. }) => cause::cause(session, id).await,
        Verb::Events(arguments) => events::events(session, &arguments).await,
        Verb::Logs(arguments) => logs::logs(session, &arguments).await,
        Verb::Run(_)
        | Verb::Up(_)
        | Verb::Config(_)
        | Verb::Flags(_)
        | Verb::Version
        | Verb::Circuit(_)
        | Verb::Error(_)
        | Verb::Explain(_)
        | Verb::Show(_)
        | Verb::Task(_)
        | Verb::Dlq(_)
        | Verb::Demo(_) => asks_no_daemon(),
        #[cfg(feature = "tui")]
        Verb::Top(_) => asks_no_daemon(),
    }
}

fn asks_no_daemon() -> Result<Exit, Failure> {
    Err(Failure::new(Fault::Usage, "this verb asks no daemon", "report this"))
}

fn control_of(verb: &SystemVerb) -> ControlCommand {
    match verb {
        SystemVerb::Pause(_) => ControlCommand::Pause(EmptyRequest {}),
        SystemVerb::Resume(_) => ControlCommand::Resume(EmptyRequest {}),
        SystemVerb::Drain(_) => ControlCommand::Drain(EmptyRequest {}),
        SystemVerb::Reload(_) => ControlCommand::Reload(ReloadRequest::default()),
        SystemVerb::Shutdown(_) => ControlCommand::Shutdown(EmptyRequest {}),
    }
}
