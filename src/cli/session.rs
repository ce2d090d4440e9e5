//! What a verb works with: a client, a console, the form of the output, how long to wait.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::nearest;
use crate::cli::output::Format;
use crate::protocol::command::{
    AgentCommand, Answer, CommandError, ControlCommand, EmptyRequest, ErrorKind,
};
use crate::protocol::subject::Subject;

/// Wait for an answer when nobody says how long.
pub(crate) const WAIT: Duration = Duration::from_secs(10);

/// What a verb works with.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    /// The way to the daemon.
    pub(crate) client: &'a dyn Client,
    /// Where to write.
    pub(crate) console: Console,
    /// Form of the output.
    pub(crate) format: Format,
    /// Wait for an answer, if somebody said how long.
    pub(crate) timeout: Option<Duration>,
    /// Tells the time.
    pub(crate) clock: fn() -> Timestamp,
    /// Where the user is.
    pub(crate) zone: TimeZone,
}

impl Session<'_> {
    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Sends a command about agents.
    ///
    /// # Errors
    ///
    /// No answer came; a refusal is an answer.
    pub(crate) async fn ask_agent(
        &self,
        command: &AgentCommand,
        usual: Duration,
    ) -> Result<Answer, Failure> {
        self.ask(Subject::AgentCommand, command, usual).await
    }

    /// Sends a command about the daemon.
    ///
    /// # Errors
    ///
    /// No answer came; a refusal is an answer.
    pub(crate) async fn ask_system(
        &self,
        command: &ControlCommand,
        usual: Duration,
    ) -> Result<Answer, Failure> {
        self.ask(Subject::SystemControl, command, usual).await
    }

    async fn ask(
        &self,
        subject: Subject,
        command: &impl Serialize,
        usual: Duration,
    ) -> Result<Answer, Failure> {
        let payload = serde_json::to_vec(command).map_err(|error| {
            Failure::new(Fault::Usage, "the request cannot be written", "report this")
                .caused_by(&error)
        })?;
        let wait = self.timeout.unwrap_or(usual);
        let bytes = self.client.request(subject, payload, wait).await?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| {
            let next = "check that daemon and command line have the same version";
            Failure::new(Fault::BadAnswer, "the daemon's answer cannot be read", next)
                .caused_by(&error)
        })?;
        if answer.ok == answer.error.is_some() {
            let next = "check that daemon and command line have the same version";
            let message = "the daemon's answer is neither a success nor a refusal";
            return Err(Failure::new(Fault::BadAnswer, message, next));
        }
        Ok(answer)
    }

    /// All agents.
    ///
    /// # Errors
    ///
    /// No answer came, or the daemon refused.
    pub(crate) async fn list(&self) -> Result<Answer, Failure> {
        let answer = self.ask_agent(&AgentCommand::List(EmptyRequest {}), WAIT).await?;
        match &answer.error {
            Some(error) => Err(error.into()),
            None => Ok(answer),
        }
    }

    /// A refusal as a failure. A misspelt agent gets a suggestion from those there are.
    pub(crate) async fn refusal(&self, error: &CommandError, agent: &str) -> Failure {
        let failure = Failure::from(error);
        if error.kind != ErrorKind::UnknownAgent || error.hint.contains("did you mean") {
            return failure;
        }
        // The refusal is what counts: if the list does not come, there is no suggestion.
        let Ok(Answer { agents: Some(agents), .. }) = self.list().await else { return failure };
        let names = agents.iter().map(|known| known.name.as_str());
        match nearest(agent, names) {
            Some(name) => failure.suggest(&format!("did you mean {name:?}?")),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Script, block_on, session};

    fn fault_of(answer: serde_json::Value) -> Failure {
        let script = Script::of([answer]);
        let (session, _) = session(&script, Format::Table);
        block_on(session.list()).unwrap_err()
    }

    #[test]
    fn an_answer_that_says_neither_yes_nor_no_is_refused() {
        assert!(fault_of(json!({"ok": false})).is(Fault::BadAnswer));
        assert!(fault_of(json!({"nothing": 1})).is(Fault::BadAnswer));
        assert!(fault_of(json!([])).is(Fault::BadAnswer));
    }

    #[test]
    fn a_timeout_that_was_asked_for_replaces_the_usual_one() {
        let script = Script::of([json!({"ok": true}), json!({"ok": true})]);
        let (mut session, _) = session(&script, Format::Table);
        block_on(session.list()).unwrap();
        session.timeout = Some(Duration::from_secs(1));
        block_on(session.list()).unwrap();
        assert_eq!(script.waits(), [WAIT, Duration::from_secs(1)]);
    }
}
