//! Carries a command out as if it had been typed: the same words through the same parser into the
//! same verb. What it prints is caught.

use clap::Parser as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::arguments::{Arguments, Common, Verb};
use crate::cli::ask;
use crate::cli::console::{Caught, Console};
use crate::cli::dlq;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::nats_client::NatsClient;
use crate::cli::output::Format;
use crate::cli::session::Session;
use crate::cli::tasks;
use crate::cli::tasks::arguments::TaskArguments;
use crate::cli::top::actions::{Deed, line};
use crate::cli::top::model::picture::Outcome;
use crate::cli::usage;

/// Carries a command out.
pub(crate) async fn carry_out(client: &NatsClient, common: &Common, deed: &Deed) -> Outcome {
    let caught = Caught::default();
    let done = run(client, common, deed, caught.console()).await;
    if let Err(failure) = &done {
        caught.console().failure(failure);
    }
    let said = |text: String| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let result = match done {
        Ok(Exit::Done) => Ok(said(caught.text())),
        Ok(_) | Err(_) => Err(said(caught.text())),
    };
    Outcome { line: line(&deed.words, &[]), result }
}

async fn run(
    client: &NatsClient,
    common: &Common,
    deed: &Deed,
    mut console: Console,
) -> Result<Exit, Failure> {
    let program = ["provost"].into_iter().map(str::to_owned);
    let words = program.chain(deed.words.iter().cloned());
    let parsed = Arguments::try_parse_from(words).map_err(|error| usage(&error))?;
    let connection = client.connection();
    let common = Common { output: Format::Table, ..common.clone() };
    match parsed.verb {
        None => Ok(Exit::Done),
        Some(Verb::Task(TaskArguments { verb })) => {
            tasks::task(connection.clone(), &mut console, &common, verb).await
        }
        Some(Verb::Dlq(arguments)) => {
            dlq::dlq(&mut console, common.output, connection, &arguments.verb).await
        }
        Some(verb) => {
            let mut session = Session {
                client,
                console,
                format: common.output,
                timeout: common.timeout,
                clock: Timestamp::now,
                zone: TimeZone::system(),
            };
            Box::pin(ask(&mut session, verb)).await
        }
    }
}
