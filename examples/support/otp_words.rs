//! The words of scenarios and traces, which are Erlang's, in the machine's words and back.

use std::time::Duration;

use provost::logic::restart::{Refusal, Reply, SpecFault, StartOutcome};
use provost::protocol::exit::{ChildExit, StartError};
use provost::protocol::id::ChildName;
use provost::protocol::spec::{
    AutoShutdown, ChildKind, ChildSpec, Limit, RestartPolicy, RestartType, Shutdown, Significance,
    Strategy, SupervisorSpec,
};
use serde_json::Value;

use super::Fault;

pub(crate) fn child_spec(spec: &Value) -> Result<ChildSpec, Fault> {
    let supervisor = spec.get("strategy").is_some();
    let restart = match spec.get("restart").and_then(Value::as_str) {
        None | Some("permanent") => RestartType::Permanent,
        Some("transient") => RestartType::Transient,
        Some("temporary") => RestartType::Temporary,
        Some(other) => return Err(format!("{{invalid_restart_type,{other}}}")),
    };
    let shutdown = match spec.get("shutdown") {
        Some(Value::String(word)) if word == "brutal_kill" => Shutdown::BrutalKill,
        Some(Value::String(_)) => Shutdown::Infinity,
        Some(ms) => Shutdown::Timeout(Duration::from_millis(ms.as_u64().unwrap_or_default())),
        None if supervisor => Shutdown::Infinity,
        None => Shutdown::Timeout(Duration::from_secs(5)),
    };
    let significant = spec.get("significant").and_then(Value::as_bool).unwrap_or_default();
    Ok(ChildSpec {
        name: child_name(text(spec, "id")?)?,
        kind: if supervisor { ChildKind::Supervisor } else { ChildKind::Worker },
        restart,
        shutdown,
        significance: if significant { Significance::Significant } else { Significance::Ordinary },
        policy: RestartPolicy::OTP,
        origin: None,
    })
}

pub(crate) fn supervisor_spec(spec: &Value) -> Result<SupervisorSpec, Fault> {
    let strategy = match text(spec, "strategy")? {
        "one_for_one" => Strategy::OneForOne,
        "one_for_all" => Strategy::OneForAll,
        "rest_for_one" => Strategy::RestForOne,
        "simple_one_for_one" => Strategy::SimpleOneForOne,
        other => return Err(format!("{{supervisor_data,{{invalid_strategy,{other}}}}}")),
    };
    let auto_shutdown = match spec.get("auto_shutdown").and_then(Value::as_str) {
        Some("any_significant") => AutoShutdown::AnySignificant,
        Some("all_significant") => AutoShutdown::AllSignificant,
        _ => AutoShutdown::Never,
    };
    let number = |key, default| spec.get(key).and_then(Value::as_u64).unwrap_or(default);
    let intensity = u32::try_from(number("intensity", 1)).map_err(|e| e.to_string())?;
    let period = Duration::from_secs(number("period", 5));
    Ok(SupervisorSpec {
        name: child_name(text(spec, "id")?)?,
        strategy,
        limit: Some(Limit { intensity, period }),
        auto_shutdown,
        origin: None,
    })
}

/// How an attempt to start goes, the first being 1.
pub(crate) fn planned(spec: &Value, attempt: usize) -> char {
    let plan = spec.get("starts").and_then(Value::as_str).unwrap_or_default();
    let (stem, repeats) = plan.strip_suffix('*').map_or((plan, false), |stem| (stem, true));
    match stem.chars().nth(attempt.saturating_sub(1)) {
        Some(how) => how,
        None if repeats => stem.chars().last().unwrap_or('.'),
        None => '.',
    }
}

pub(crate) fn fault_text(fault: &SpecFault) -> String {
    match fault {
        SpecFault::NotOneTemplate(_) => "{bad_start_spec,[]}".to_owned(),
        SpecFault::DuplicateChildName(_)
        | SpecFault::SignificantWithoutAutoShutdown
        | SpecFault::SignificantPermanent => format!("{{start_spec,{}}}", spec_fault_text(fault)),
    }
}

pub(crate) fn spec_fault_text(fault: &SpecFault) -> String {
    let bad = |key: &str| format!("{{bad_combination,[{key},{{significant,true}}]}}");
    match fault {
        SpecFault::DuplicateChildName(name) => format!("{{duplicate_child_name,{name}}}"),
        SpecFault::SignificantWithoutAutoShutdown => bad("{auto_shutdown,never}"),
        SpecFault::SignificantPermanent => bad("{restart,permanent}"),
        SpecFault::NotOneTemplate(_) => String::new(),
    }
}

pub(crate) fn reply_text(reply: &Reply) -> String {
    let refusal = match reply {
        Reply::Ok => return "ok".to_owned(),
        Reply::Undefined => return "ok:undefined".to_owned(),
        Reply::Refused(refusal) => refusal,
    };
    let word = match refusal {
        Refusal::NotFound => "not_found",
        Refusal::AlreadyStarted => "already_started",
        Refusal::AlreadyPresent => "already_present",
        Refusal::Running => "running",
        Refusal::Restarting => "restarting",
        Refusal::SimpleOneForOne => "simple_one_for_one",
        Refusal::BadSpec(_) => "bad_combination",
        Refusal::StartFailed(error) => return format!("error:{}", error_text(error)),
        Refusal::ShuttingDown => "shutting_down",
        Refusal::NoCircuit => "no_circuit",
    };
    format!("error:{word}")
}

/// OTP's exit reasons in the machine's words; `exit_text` is the way back.
pub(crate) fn exit(why: &str) -> ChildExit {
    match why {
        "normal" => ChildExit::Finished,
        "shutdown" => ChildExit::Stopped,
        "{shutdown,term}" => ChildExit::Exited { code: 0 },
        "killed" => ChildExit::Killed,
        other => ChildExit::Failed { message: other.to_owned() },
    }
}

pub(crate) fn exit_text(exit: &ChildExit) -> String {
    match exit {
        ChildExit::Finished => "normal".to_owned(),
        ChildExit::Stopped | ChildExit::GaveUp { .. } => "shutdown".to_owned(),
        ChildExit::Exited { code: 0 } => "{shutdown,term}".to_owned(),
        ChildExit::Killed => "killed".to_owned(),
        ChildExit::Failed { message } => message.clone(),
        ChildExit::Exited { .. }
        | ChildExit::Signaled { .. }
        | ChildExit::Panicked { .. }
        | ChildExit::Throttled { .. }
        | ChildExit::Lost { .. }
        | ChildExit::OutOfMemory { .. }
        | ChildExit::ProbeFailed { .. }
        | ChildExit::Watchdog { .. }
        | ChildExit::Hung { .. }
        | ChildExit::RanTooLong { .. }
        | ChildExit::Judged { .. } => exit.to_string(),
    }
}

pub(crate) fn failed(why: &str) -> StartOutcome {
    StartOutcome::Failed(StartError::Failed { message: why.to_owned() })
}

pub(crate) fn error_text(error: &StartError) -> String {
    match error {
        StartError::Failed { message } => message.clone(),
        StartError::NotFound { .. }
        | StartError::NotExecutable { .. }
        | StartError::BadDirectory { .. }
        | StartError::System { .. }
        | StartError::Timeout { .. }
        | StartError::Refused { .. } => error.to_string(),
    }
}

pub(crate) fn child_name(id: &str) -> Result<ChildName, Fault> {
    id.parse().map_err(|error| format!("{error}"))
}

pub(crate) fn field<'a>(value: &'a Value, key: &str) -> Result<&'a Value, Fault> {
    value.get(key).ok_or_else(|| format!("no {key} in {value}"))
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, Fault> {
    field(value, key)?.as_str().ok_or_else(|| format!("{key} is no text in {value}"))
}

pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn pair(value: &Value) -> Result<(String, String), Fault> {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(id), Value::String(reason)]) => Ok((id.clone(), reason.clone())),
        _ => Err(format!("{value} is no [id, reason]")),
    }
}
