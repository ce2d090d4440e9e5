//! `provost check`: one answer for a monitoring system.
//!
//! The measured values are the same in all forms; the verdict is made once.

use serde::Serialize;
use serde_json::json;

use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::human::one_line;
use crate::cli::ops::arguments::{CheckArguments, CheckFormat, Subject};
use crate::cli::output::Format;
use crate::cli::session::{Session, WAIT};
use crate::cli::system::without;
use crate::protocol::command::{ControlCommand, EmptyRequest, SystemStatus};
use crate::protocol::status::{AgentState, AgentStatus, CircuitState, HealthStatus};

/// How something stands, in the words and exit codes of Nagios.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Critical,
    Unknown,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Exit codes 0 to 3, under which the command line has other names.
    fn exit(self) -> Exit {
        match self {
            Self::Ok => Exit::Done,
            Self::Warning => Exit::Bad,
            Self::Critical => Exit::Usage,
            Self::Unknown => Exit::Stopped,
        }
    }
}

/// What was measured of one thing.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    check: &'static str,
    status: Verdict,
    message: String,
    values: Vec<(&'static str, u64)>,
}

/// Checks.
///
/// # Errors
///
/// No answer came; see [`unknown`].
pub(crate) async fn check(
    session: &mut Session<'_>,
    arguments: &CheckArguments,
) -> Result<Exit, Failure> {
    let measured = match measure(session, arguments.what).await {
        Ok(Ok(measured)) => measured,
        Ok(Err(exit)) => return Ok(exit),
        Err(failure) => return Err(failure),
    };
    let worst = measured.iter().map(|one| one.status).max().unwrap_or(Verdict::Unknown);
    let as_json = matches!(session.format, Format::Json | Format::Jsonl);
    match arguments.format {
        CheckFormat::Nagios if !as_json => session.console.line(&nagios(&measured, worst))?,
        CheckFormat::Prometheus if !as_json => {
            for line in prometheus(&measured) {
                session.console.line(&line)?;
            }
        }
        CheckFormat::Nagios | CheckFormat::Prometheus | CheckFormat::Json => {
            let checks: Vec<_> = measured.iter().map(document).collect();
            let document = json!({"status": worst.word().to_lowercase(), "checks": checks});
            session.console.line(&document.to_string())?;
        }
    }
    Ok(match arguments.format {
        CheckFormat::Nagios => worst.exit(),
        CheckFormat::Prometheus => Exit::Done,
        CheckFormat::Json if worst == Verdict::Ok => Exit::Done,
        CheckFormat::Json => Exit::Bad,
    })
}

/// For Nagios it is an answer that there is none: UNKNOWN.
///
/// # Errors
///
/// Others are told the failure itself; so is everybody who has ended it himself.
pub(super) fn unknown(
    console: &mut Console,
    arguments: &CheckArguments,
    failure: Failure,
) -> Result<Exit, Failure> {
    match &failure.report {
        Some(report) if arguments.format == CheckFormat::Nagios => {
            console.line(&format!("PROVOST UNKNOWN - {}", one_line(&report.message)))?;
            Ok(Verdict::Unknown.exit())
        }
        Some(_) | None => Err(failure),
    }
}

async fn measure(
    session: &mut Session<'_>,
    what: Option<Subject>,
) -> Result<Result<Vec<Measured>, Exit>, Failure> {
    let wanted = |subject: Subject| what.is_none_or(|what| what == subject);
    let mut measured = Vec::new();
    let answer = session.ask_system(&ControlCommand::Status(EmptyRequest {}), WAIT).await?;
    let Some(system) = &answer.system else {
        return without(session, &answer, "status").map(Err);
    };
    if wanted(Subject::Agents) || wanted(Subject::Circuits) {
        let agents = session.list().await?.agents.unwrap_or_default();
        if wanted(Subject::Agents) {
            measured.push(of_agents(&agents));
        }
        if wanted(Subject::Circuits) {
            measured.push(of_circuits(&agents, system));
        }
    }
    if wanted(Subject::Queue) {
        measured.push(of_queue(system));
    }
    if wanted(Subject::Bus) {
        measured.push(of_bus(system));
    }
    Ok(Ok(measured))
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn of_agents(agents: &[AgentStatus]) -> Measured {
    let count = |which: &dyn Fn(&AgentStatus) -> bool| {
        number(agents.iter().filter(|agent| which(agent)).count())
    };
    let unhealthy = |agent: &AgentStatus| {
        matches!(agent.health.status, HealthStatus::Degraded | HealthStatus::Unhealthy)
    };
    let down = |agent: &AgentStatus| {
        matches!(agent.state, AgentState::Backoff | AgentState::Quarantined | AgentState::Probation)
    };
    // Who was stopped by hand is as somebody wants him to be.
    let (all, bad) = (number(agents.len()), count(&down));
    let weak =
        count(&|agent| !down(agent) && (unhealthy(agent) || agent.state == AgentState::Degraded));
    let running = count(&|agent| agent.state == AgentState::Running);
    let status = match (bad, weak) {
        (0, 0) => Verdict::Ok,
        (0, _) => Verdict::Warning,
        (_, _) => Verdict::Critical,
    };
    Measured {
        check: "agents",
        status,
        message: format!("{running} of {all} running, {weak} unhealthy, {bad} down"),
        values: vec![("agents", all), ("running", running), ("unhealthy", weak), ("down", bad)],
    }
}

fn of_circuits(agents: &[AgentStatus], system: &SystemStatus) -> Measured {
    let of_agents = agents.iter().map(|agent| agent.circuit.state);
    let states: Vec<CircuitState> =
        of_agents.chain(system.downstreams.values().map(|circuit| circuit.state)).collect();
    let count = |wanted: &[CircuitState]| {
        number(states.iter().filter(|state| wanted.contains(state)).count())
    };
    let open = count(&[CircuitState::Open, CircuitState::ForcedOpen]);
    let half = count(&[CircuitState::HalfOpen]);
    let status = match (open, half) {
        (0, 0) => Verdict::Ok,
        (0, _) => Verdict::Warning,
        (_, _) => Verdict::Critical,
    };
    Measured {
        check: "circuits",
        status,
        message: format!("{open} open, {half} on trial, of {}", states.len()),
        values: vec![("circuits", number(states.len())), ("open", open), ("half_open", half)],
    }
}

fn of_queue(system: &SystemStatus) -> Measured {
    let tasks = &system.tasks;
    let status = match (tasks.state.as_str(), &tasks.trouble) {
        ("stuck", _) => Verdict::Critical,
        (_, Some(_)) => Verdict::Warning,
        (_, None) => Verdict::Ok,
    };
    let trouble = tasks.trouble.as_ref().map(|trouble| format!(": {trouble}"));
    Measured {
        check: "queue",
        status,
        message: format!(
            "tasks {}, {} ready, {} delayed, {} held{}",
            tasks.state,
            tasks.ready,
            tasks.delayed,
            tasks.held,
            trouble.unwrap_or_default()
        ),
        values: vec![("ready", tasks.ready), ("delayed", tasks.delayed), ("held", tasks.held)],
    }
}

fn of_bus(system: &SystemStatus) -> Measured {
    let outbox = &system.outbox;
    let connected = system.nats.state == "connected";
    let crowded = outbox.bound_events / 2 < outbox.waiting;
    let status = if !connected {
        Verdict::Critical
    } else if 0 < outbox.dropped || outbox.memory_only || crowded {
        Verdict::Warning
    } else {
        Verdict::Ok
    };
    Measured {
        check: "bus",
        status,
        message: format!(
            "nats {}, {} events wait, {} dropped",
            system.nats.state, outbox.waiting, outbox.dropped
        ),
        values: vec![
            ("connected", u64::from(connected)),
            ("waiting", outbox.waiting),
            ("dropped", outbox.dropped),
        ],
    }
}

fn document(measured: &Measured) -> serde_json::Value {
    let values: serde_json::Map<String, serde_json::Value> =
        measured.values.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    json!({"check": measured.check, "status": measured.status, "message": measured.message, "values": values})
}

/// One line: status, words, performance data.
fn nagios(measured: &[Measured], worst: Verdict) -> String {
    let words: Vec<String> =
        measured.iter().map(|one| format!("{}: {}", one.check, one.message)).collect();
    let values = measured.iter().flat_map(|one| {
        one.values.iter().map(|(name, value)| format!("{}_{name}={value}", one.check))
    });
    let values: Vec<String> = values.collect();
    // A bar would end the words.
    let words = words.join("; ").replace('|', "/");
    format!("PROVOST {} - {words} | {}", worst.word(), values.join(" "))
}

/// Metrics of a textfile collector.
fn prometheus(measured: &[Measured]) -> Vec<String> {
    let mut lines = vec![
        "# HELP provost_check_status Verdict of provost check: 0 ok, 1 warning, 2 critical."
            .to_owned(),
        "# TYPE provost_check_status gauge".to_owned(),
    ];
    for one in measured {
        let code = one.status.exit().code();
        lines.push(format!("provost_check_status{{check=\"{}\"}} {code}", one.check));
    }
    lines.push("# HELP provost_check_value What provost check measured.".to_owned());
    lines.push("# TYPE provost_check_value gauge".to_owned());
    for one in measured {
        for (name, value) in &one.values {
            let labels = format!("check=\"{}\",name=\"{name}\"", one.check);
            lines.push(format!("provost_check_value{{{labels}}} {value}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Script, agent, block_on, session};

    fn agents() -> serde_json::Value {
        let mut cruncher = agent("cruncher", AgentState::Quarantined);
        cruncher.circuit.state = CircuitState::Open;
        json!({"ok": true, "agents": [agent("w1", AgentState::Running), cruncher]})
    }

    fn arguments(what: Option<Subject>, format: CheckFormat) -> CheckArguments {
        CheckArguments { at: Default::default(), what, format }
    }

    #[test]
    fn a_quarantined_agent_is_critical_and_told_in_one_line() {
        let script = Script::of([crate::cli::verbs::system(), agents()]);
        let (mut session, screen) = session(&script, Format::Table);
        let wanted = arguments(Some(Subject::Agents), CheckFormat::Nagios);
        let done = block_on(check(&mut session, &wanted)).unwrap();
        assert_eq!(done.code(), 2);
        insta::assert_snapshot!(screen.out(), @"PROVOST CRITICAL - agents: 1 of 2 running, 0 unhealthy, 1 down | agents_agents=2 agents_running=1 agents_unhealthy=0 agents_down=1");
    }

    #[test]
    fn all_checks_as_metrics() {
        let script = Script::of([crate::cli::verbs::system(), agents()]);
        let (mut session, screen) = session(&script, Format::Table);
        let wanted = arguments(None, CheckFormat::Prometheus);
        assert_eq!(block_on(check(&mut session, &wanted)), Ok(Exit::Done));
        let out = screen.out();
        for line in [
            "provost_check_status{check=\"agents\"} 2",
            "provost_check_status{check=\"bus\"} 0",
            "provost_check_value{check=\"circuits\",name=\"open\"} 1",
            "provost_check_value{check=\"queue\",name=\"ready\"} 0",
        ] {
            assert!(out.lines().any(|found| found == line), "{line}: {out}");
        }
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_unknown_to_nagios() {
        let gone = Failure::new(crate::cli::failure::Fault::DaemonUnreachable, "no daemon", "up");
        let script = Script::of([]).then_fail(gone);
        let (mut session, screen) = session(&script, Format::Table);
        let wanted = arguments(None, CheckFormat::Nagios);
        let failure = block_on(check(&mut session, &wanted)).unwrap_err();
        let done = unknown(&mut session.console, &wanted, failure).unwrap();
        assert_eq!(done.code(), 3);
        assert_eq!(screen.out(), "PROVOST UNKNOWN - no daemon\n");
    }
}
