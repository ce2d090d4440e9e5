//! What the command line says when something did not work: code, cause, next step, exit code.
//!
//! Refusals of the daemon keep their own codes (`PV01xx`); what fails on this side has one of
//! [`Fault`] (`PV02xx`). Nothing here prints; see `console`.

use std::error::Error;

use crate::cli::exit::Exit;
use crate::protocol::command::{CommandError, ErrorKind};

/// What fails on the side of the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The command line cannot be understood.
    Usage,
    /// No daemon was found or none answers.
    DaemonUnreachable,
    /// NATS cannot be reached or refuses us.
    NatsUnreachable,
    /// The configuration has faults.
    ConfigInvalid,
    /// No answer came in time.
    TimedOut,
    /// An answer came that cannot be read.
    BadAnswer,
    /// The daemon could not start, or ended badly.
    DaemonFailed,
    /// Standard output cannot be written.
    OutputFailed,
    /// A file that says where the daemon is cannot be used.
    AddressUnreadable,
    /// Events are not stored.
    NotStored,
    /// The call of a downstream failed.
    CallFailed,
    /// There is no such downstream.
    NoSuchDownstream,
    /// No event of that moment is kept.
    NotKept,
    /// Nothing with that name is known.
    NoSuchThing,
}

impl Fault {
    /// All of them, in the order of their codes.
    pub(crate) const ALL: [Self; 14] = [
        Self::Usage,
        Self::DaemonUnreachable,
        Self::NatsUnreachable,
        Self::ConfigInvalid,
        Self::TimedOut,
        Self::BadAnswer,
        Self::DaemonFailed,
        Self::OutputFailed,
        Self::AddressUnreadable,
        Self::NotStored,
        Self::CallFailed,
        Self::NoSuchDownstream,
        Self::NotKept,
        Self::NoSuchThing,
    ];

    /// The stable code.
    #[must_use]
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Usage => "PV0200",
            Self::DaemonUnreachable => "PV0201",
            Self::NatsUnreachable => "PV0202",
            Self::ConfigInvalid => "PV0203",
            Self::TimedOut => "PV0204",
            Self::BadAnswer => "PV0205",
            Self::DaemonFailed => "PV0206",
            Self::OutputFailed => "PV0207",
            Self::AddressUnreadable => "PV0208",
            Self::NotStored => "PV0209",
            Self::CallFailed => "PV0210",
            Self::NoSuchDownstream => "PV0211",
            Self::NotKept => "PV0212",
            Self::NoSuchThing => "PV0213",
        }
    }

    /// What the program exits with.
    #[must_use]
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Usage | Self::ConfigInvalid => Exit::Usage,
            Self::DaemonUnreachable | Self::NatsUnreachable | Self::AddressUnreadable => {
                Exit::Unreachable
            }
            Self::TimedOut => Exit::TimedOut,
            Self::NoSuchDownstream | Self::NotKept | Self::NoSuchThing => Exit::NoSuchId,
            Self::BadAnswer
            | Self::DaemonFailed
            | Self::OutputFailed
            | Self::NotStored
            | Self::CallFailed => Exit::Bad,
        }
    }
}

/// What is told about a failure.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Report {
    /// Stable code.
    pub(crate) code: String,
    /// What is wrong.
    pub(crate) message: String,
    /// Why, from the nearest cause to the farthest.
    pub(crate) causes: Vec<String>,
    /// What to do.
    pub(crate) next: String,
}

/// Why a verb did not do what was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    /// What the program exits with.
    pub(crate) exit: Exit,
    /// What is told; nothing for an end that the user knows about.
    pub(crate) report: Option<Box<Report>>,
}

impl Failure {
    /// A failure of our side.
    #[must_use]
    pub(crate) fn new(fault: Fault, message: impl Into<String>, next: impl Into<String>) -> Self {
        let report = Report {
            code: fault.code().to_owned(),
            message: message.into(),
            causes: Vec::new(),
            next: next.into(),
        };
        Self { exit: fault.exit(), report: Some(Box::new(report)) }
    }

    /// An end without a word.
    #[must_use]
    pub(crate) fn quiet(exit: Exit) -> Self {
        Self { exit, report: None }
    }

    /// Adds a cause in words.
    #[must_use]
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        if let Some(report) = &mut self.report {
            report.causes.push(cause.into());
        }
        self
    }

    /// Adds an error and its sources as causes.
    #[must_use]
    pub(crate) fn caused_by(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Many errors repeat their source in their own text.
            let known = self.report.as_ref().is_some_and(|report| {
                report.message.contains(&text)
                    || report.causes.iter().any(|cause| cause.contains(&text))
            });
            if !known {
                self = self.because(text);
            }
            next = error.source();
        }
        self
    }

    /// Puts something before what to do next.
    #[must_use]
    pub(crate) fn suggest(mut self, suggestion: &str) -> Self {
        if let Some(report) = &mut self.report {
            report.next = format!("{suggestion}; {}", report.next);
        }
        self
    }

    /// Whether it is a failure with this code.
    #[must_use]
    pub(crate) fn is(&self, fault: Fault) -> bool {
        self.report.as_ref().is_some_and(|report| report.code == fault.code())
    }

    /// Standard output could not be written. A reader that has gone (`| head`) is no failure.
    #[must_use]
    pub(crate) fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::quiet(Exit::Done);
        }
        Self::new(
            Fault::OutputFailed,
            "standard output cannot be written",
            "check where the output goes",
        )
        .caused_by(error)
    }
}

impl From<&CommandError> for Failure {
    fn from(error: &CommandError) -> Self {
        let next = if error.hint.is_empty() { usual_step(error.kind) } else { &error.hint };
        let report = Report {
            code: error.code.clone(),
            message: error.message.clone(),
            causes: Vec::new(),
            next: next.to_owned(),
        };
        Self { exit: error.kind.into(), report: Some(Box::new(report)) }
    }
}

/// What to do about a refusal that does not say so itself.
fn usual_step(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest => "provost help shows what each command takes",
        ErrorKind::UnknownAgentType => "declare the type under [agent_types] in the configuration",
        ErrorKind::UnknownAgent => "provost list shows all agents",
        ErrorKind::AlreadyExists => "choose another name, or remove the agent that has it",
        ErrorKind::PoolFull => "stop or remove an agent, or raise agents.max",
        ErrorKind::NotPermitted => "ask whoever runs the daemon",
        ErrorKind::WrongState => "provost status AGENT shows its state",
        ErrorKind::Unavailable => "provost status shows which part is away; try again",
        ErrorKind::Internal => "look at the daemon's log, and report this",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_keep_to_their_hundred() {
        let codes: BTreeSet<&str> = Fault::ALL.into_iter().map(Fault::code).collect();
        assert_eq!(codes.len(), Fault::ALL.len());
        assert!(codes.iter().all(|code| code.starts_with("PV02") && code.len() == 6));
        let rising: Vec<&str> = Fault::ALL.into_iter().map(Fault::code).collect();
        assert!(rising.is_sorted());
    }

    #[test]
    fn causes_are_told_once_from_near_to_far() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the door")]
        struct Outer(#[source] std::io::Error);

        let error = Outer(std::io::Error::other("no key"));
        let failure = Failure::new(Fault::DaemonFailed, "cannot open the door", "find it");
        let report = failure.caused_by(&error).report.unwrap();
        assert_eq!(report.causes, ["no key"]);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let gone = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::output(&gone), Failure::quiet(Exit::Done));
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Failure::output(&full).exit, Exit::Bad);
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let error = CommandError::new(ErrorKind::UnknownAgent, "no agent named \"x\"", "");
        let report = Failure::from(&error).report.unwrap();
        assert_eq!(report.next, "provost list shows all agents");
        let error = CommandError::new(ErrorKind::PoolFull, "full", "do this");
        let failure = Failure::from(&error).suggest("or that");
        assert_eq!(failure.report.unwrap().next, "or that; do this");
    }
}
