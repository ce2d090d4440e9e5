//! `provost doctor`: the daemon and everything it stands on, looked at one thing after the other.
//!
//! Every finding says what was found and what to do. What cannot be looked at from here is said to be
//! skipped, never called well. A daemon that does not answer is a finding like any other.

mod daemon;
mod machine;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::json;

use crate::cli::arguments::Common;
use crate::cli::colors::{of_severity, of_state};
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::find;
use crate::cli::human::one_line;
use crate::cli::nats_client::NatsClient;
use crate::cli::output::{Cell, Item, Page, Table, value_of};
use crate::cli::session::{Session, WAIT};
use crate::config::Environment;
use crate::protocol::command::{ControlCommand, EmptyRequest, SystemStatus};
use crate::protocol::fact::Severity;
use crate::protocol::status::AgentState;

/// How a thing was found.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Grade {
    /// It cannot be looked at from here.
    Skip,
    /// It is well.
    Ok,
    /// It works, but not for ever or not as well as it could.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Finding {
    /// What.
    pub(super) check: &'static str,
    /// How it was found.
    pub(super) status: Grade,
    /// What was found.
    pub(super) found: String,
    /// What to do; nothing where it is well.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub(super) act: Option<&'static str>,
}

impl Finding {
    pub(super) fn well(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, status: Grade::Ok, found: found.into(), act: None }
    }

    pub(super) fn skipped(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, status: Grade::Skip, found: found.into(), act: None }
    }

    pub(super) fn warn(check: &'static str, found: impl Into<String>, act: &'static str) -> Self {
        Self { check, status: Grade::Warn, found: found.into(), act: Some(act) }
    }

    pub(super) fn fail(check: &'static str, found: impl Into<String>, act: &'static str) -> Self {
        Self { check, status: Grade::Fail, found: found.into(), act: Some(act) }
    }
}

/// Looks at everything.
///
/// # Errors
///
/// The output cannot be written, or the flags contradict each other; what is found is no error.
pub(crate) fn doctor(
    console: &mut Console,
    common: &Common,
    files: &[PathBuf],
    environment: &Environment,
) -> Result<Exit, Failure> {
    let runtime = crate::cli::runtime()?;
    let (status, mut findings) = runtime.block_on(async {
        tokio::select! {
            // Dropped as a whole on Ctrl-C: it only looks.
            found = of_daemon(console, common, files, environment) => Ok(found),
            _ = tokio::signal::ctrl_c() => Err(Failure::quiet(Exit::Interrupted)),
        }
    })?;
    let folder = state_dir(console, common, files, environment, status.as_ref());
    let local = status.as_ref().map(|status| status.pid).filter(|pid| is_here(*pid));
    let mut all = machine::findings(folder.as_deref(), local);
    all.append(&mut findings);
    show(console, common, &all)
}

/// What the daemon says, and what is found behind it.
async fn of_daemon(
    console: &mut Console,
    common: &Common,
    files: &[PathBuf],
    environment: &Environment,
) -> (Option<SystemStatus>, Vec<Finding>) {
    const START: &str = "start it with `provost up -f FILE`, or say where it is with --state-dir or \
                         --nats-url";
    let settings = match find::find(common, files, environment, console) {
        Ok(settings) => settings,
        Err(failure) => return (None, vec![Finding::fail("daemon", told(&failure), START)]),
    };
    let client = match NatsClient::open(&settings).await {
        Ok(client) => client,
        Err(failure) => {
            let act = "check that the NATS server runs and takes these credentials";
            return (None, vec![Finding::fail("nats", told(&failure), act)]);
        }
    };
    let session = Session {
        client: &client,
        console: Console::of_process(common.color),
        format: common.output,
        timeout: common.timeout,
        clock: Timestamp::now,
        zone: TimeZone::system(),
    };
    let command = ControlCommand::Status(EmptyRequest {});
    let answer = session.ask_system(&command, WAIT).await;
    let status = match answer {
        Ok(answer) => answer.system.map(|status| *status),
        Err(failure) => {
            client.close().await;
            return (None, vec![Finding::fail("daemon", told(&failure), START)]);
        }
    };
    let mut findings = Vec::new();
    if let Some(status) = &status {
        findings.extend(daemon::findings(status));
        findings.extend(daemon::streams(client.connection(), status).await);
    }
    client.close().await;
    (status, findings)
}

fn told(failure: &Failure) -> String {
    let report = failure.report.as_ref();
    let words = report.map(|report| {
        let causes = report.causes.first().map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{}{causes}", report.message)
    });
    words.unwrap_or_default()
}

/// The state folder, as the daemon says; else as the flags and files say.
fn state_dir(
    console: &mut Console,
    common: &Common,
    files: &[PathBuf],
    environment: &Environment,
    status: Option<&SystemStatus>,
) -> Option<PathBuf> {
    let said = status.map(|status| PathBuf::from(&status.state_dir));
    let known = said.filter(|folder| folder.is_dir());
    known.or_else(|| {
        let folders = find::state_dirs(common, files, environment, console).ok()?;
        let there = folders.iter().find(|folder| folder.is_dir());
        there.or_else(|| folders.first()).cloned()
    })
}

/// Whether the daemon runs on this machine.
fn is_here(pid: u32) -> bool {
    let name = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"));
    name.is_ok_and(|name| name.trim() == "provost")
}

fn show(console: &mut Console, common: &Common, findings: &[Finding]) -> Result<Exit, Failure> {
    let worst = findings.iter().map(|finding| finding.status).max().unwrap_or(Grade::Ok);
    let mut table = Table::new(&["CHECK", "STATUS", "FOUND"]);
    let mut items = Vec::new();
    for finding in findings {
        let cell = match finding.status {
            Grade::Ok => Cell::styled("ok", of_state(AgentState::Running)),
            Grade::Warn => Cell::styled("warn", of_severity(Severity::Medium)),
            Grade::Fail => Cell::styled("FAIL", of_severity(Severity::High)),
            Grade::Skip => Cell::from("skip"),
        };
        let act = finding.act.map(|act| format!("; do: {act}")).unwrap_or_default();
        let found = format!("{}{act}", one_line(&finding.found));
        table.row(vec![finding.check.into(), cell, found.into()]);
        items.push(Item { name: finding.check.to_owned(), value: value_of(finding)? });
    }
    let document = json!({"status": value_of(&worst)?, "checks": value_of(&findings)?});
    Page { document, items, text: table.lines() }.print(console, common.output)?;
    Ok(if worst == Grade::Fail { Exit::Bad } else { Exit::Done })
}
