//! Runs the verbs that tell why: from stored events, whether or not a daemon answers.

use std::path::PathBuf;

use crate::cli::arguments::Common;
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::look_arguments::{ExplainArguments, ShowOneArguments};
use crate::cli::nats_client::NatsClient;
use crate::cli::session::Session;
use crate::cli::tasks::client::TaskClient;
use crate::cli::{explain as explaining, find, runtime, session_over, show as showing};
use crate::config::Environment;

/// `provost explain`.
///
/// # Errors
///
/// Nothing is stored or has that name, or NATS cannot be reached.
pub(crate) fn explain(
    console: &mut Console,
    common: &Common,
    arguments: &ExplainArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    if let Some(done) = explaining::without_daemon(console, common, arguments, environment) {
        return done;
    }
    let at = (common, arguments.at.files.as_slice(), environment);
    let done = looking(console, at, async |session, tasks| {
        explaining::explain_it(session, tasks, arguments).await
    });
    // A child goes before a section of the configuration that has its name.
    done.or_else(|failure| {
        let section = explaining::section(console, common, arguments, environment);
        section.unwrap_or(Err(failure))
    })
}

/// `provost show`.
///
/// # Errors
///
/// Nothing is stored or has that name, or NATS cannot be reached.
pub(crate) fn show(
    console: &mut Console,
    common: &Common,
    arguments: &ShowOneArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let keys = showing::keys(console, common, arguments, environment);
    let at = (common, arguments.at.files.as_slice(), environment);
    looking(console, at, async |session, _| showing::show(session, arguments, &keys).await)
}

/// Connects, looks, closes. Ctrl-C ends it at any point: nothing is changed by looking.
fn looking(
    console: &mut Console,
    (common, files, environment): (&Common, &[PathBuf], &Environment),
    look: impl AsyncFnOnce(&mut Session<'_>, &TaskClient) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let settings = find::find(common, files, environment, console)?;
    let asking = async {
        let client = NatsClient::open(&settings).await?;
        let tasks = TaskClient::new(client.connection().clone());
        let mut session = session_over(&client, common);
        let done = look(&mut session, &tasks).await;
        client.close().await;
        done.and_then(|exit| session.console.flush().map(|()| exit))
    };
    runtime()?.block_on(async {
        tokio::select! {
            // Dropped as a whole on Ctrl-C: nothing is changed by looking.
            done = Box::pin(asking) => done,
            _ = tokio::signal::ctrl_c() => {
                Err(Failure::quiet(Exit::Interrupted))
            }
        }
    })
}
