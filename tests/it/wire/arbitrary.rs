//! Strategies for arbitrary documents.
//!
//! Numbers with a fraction are multiples of 1/64: JSON text carries them exactly.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use provost::protocol::command::{
    AgentCommand, AgentRequest, EmptyRequest, LogsRequest, SpawnRequest,
};
use provost::protocol::decision::{
    DecisionRecord, Input, Inputs, NextAction, NextKind, Reason, Rule,
};
use provost::protocol::exit::ExitCodes;
use provost::protocol::fact::{
    AgentChanged, AgentSpawned, CircuitChanged, Decided, Fact, Failed, FailureType, HealthMetrics,
    HealthReported, Recovered, RecoveryHow, StateChange,
};
use provost::protocol::id::{AgentId, AgentTypeName, ChildName, EventId, Generation};
use provost::protocol::spec::{
    AutoShutdown, BackoffSpec, ChildKind, ChildSpec, CircuitSpec, Jitter, Limit, OnExceeded,
    RestartPolicy, RestartType, Shutdown, Significance, Strategy as SupervisorStrategy,
};
use provost::protocol::status::{AgentState, CircuitState, HealthStatus};

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,64}".prop_filter("reserved", |text| text.parse::<AgentId>().is_ok())
}

fn name() -> impl Strategy<Value = ChildName> {
    token().prop_map(|text| text.parse().unwrap())
}

fn agent_type() -> impl Strategy<Value = AgentTypeName> {
    token().prop_map(|text| text.parse().unwrap())
}

fn event_id() -> impl Strategy<Value = EventId> {
    any::<u128>().prop_map(|bits| EventId::new(uuid::Uuid::from_u128(bits)))
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000_000_i64).prop_map(|millis| Timestamp::from_millisecond(millis).unwrap())
}

fn number() -> impl Strategy<Value = f64> {
    any::<i32>().prop_map(|value| f64::from(value) / 64.0)
}

fn words() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(any::<String>(), any::<String>(), 0..4)
}

fn inputs() -> impl Strategy<Value = Inputs> {
    let input = prop_oneof![
        any::<u64>().prop_map(Input::Count),
        number().prop_map(Input::Number),
        any::<bool>().prop_map(Input::Flag),
        any::<String>().prop_map(Input::Word),
    ];
    btree_map("[a-z_]{1,12}".prop_map(Cow::Owned), input, 0..5)
        .prop_map(|inputs| Inputs(Arc::new(inputs)))
}

fn rule() -> impl Strategy<Value = Rule> {
    let exceeded = select(vec![OnExceeded::Quarantine, OnExceeded::StopTree]);
    let strategy = select(vec![SupervisorStrategy::OneForOne, SupervisorStrategy::RestForOne]);
    let restart = select(vec![RestartType::Permanent, RestartType::Transient]);
    let numbers = (option::of(any::<u32>()), option::of(any::<u64>()), option::of(any::<u64>()));
    let words = (option::of(strategy), option::of(restart), option::of(exceeded));
    let origins = (option::of(any::<String>()), option::of(any::<String>()));
    (words, numbers, option::of(any::<u64>()), origins).prop_map(
        |(
            (strategy, restart, on_exceeded),
            (intensity, period_ms, open_for_ms),
            stable,
            (origin, exit_rule),
        )| {
            Rule {
                strategy,
                distribution: None,
                restart,
                intensity,
                period_ms,
                on_exceeded,
                open_for_ms,
                stable_after_ms: stable,
                origin,
                exit_rule,
            }
        },
    )
}

/// A decision record.
pub(super) fn decision() -> impl Strategy<Value = DecisionRecord> {
    let reason = select(vec![Reason::ChildExited, Reason::TrialFailed, Reason::Requested]);
    let action = select(vec![NextKind::Restart, NextKind::Trial, NextKind::None]);
    let next = (action, any::<u64>()).prop_map(|(action, in_ms)| NextAction { action, in_ms });
    (reason, inputs(), rule(), option::of(event_id()), next).prop_map(
        |(reason, inputs, rule, cause, next)| DecisionRecord { reason, inputs, rule, cause, next },
    )
}

fn exit() -> impl Strategy<Value = ExitCodes> {
    prop_oneof![
        Just(ExitCodes::default()),
        (0..256_i32).prop_map(|code| ExitCodes { code: Some(code), signal: None }),
        (1..65_i32).prop_map(|signal| ExitCodes { code: None, signal: Some(signal) }),
    ]
}

fn state() -> impl Strategy<Value = AgentState> {
    select(AgentState::ALL.to_vec())
}

fn failed() -> impl Strategy<Value = Fact> {
    let kind = select(vec![FailureType::ProcessCrash, FailureType::Lost, FailureType::Throttled]);
    let who = (option::of(token()), option::of(name()), name());
    let change = (state(), state()).prop_map(|(from, to)| StateChange { from, to });
    let rest = (time(), any::<u64>(), decision(), option::of(any::<String>()));
    (who, kind, exit(), change, rest).prop_map(
        |((agent, downstream, name), failure_type, exit, context, rest)| {
            let (detection_time, restarts, decision, message) = rest;
            Fact::Failure(Box::new(Failed {
                agent_id: agent.map(|text| text.parse().unwrap()),
                downstream,
                name,
                failure_type,
                exit,
                context,
                detection_time,
                restarts,
                decision,
                message,
            }))
        },
    )
}

fn health() -> impl Strategy<Value = Fact> {
    let value = || option::of(number());
    let status = select(vec![HealthStatus::Healthy, HealthStatus::Unknown]);
    let values = (value(), value(), value(), value(), value(), option::of(any::<u64>()));
    (status, values).prop_map(|(status, (cpu, memory, response, errors, throughput, files))| {
        let metrics = HealthMetrics {
            cpu_usage: cpu,
            memory_mb: memory,
            response_time_ms: response,
            error_rate: errors,
            throughput,
            open_files: files,
        };
        Fact::Health(HealthReported { status, metrics })
    })
}

fn circuit() -> impl Strategy<Value = Fact> {
    let states = || select(vec![CircuitState::Closed, CircuitState::HalfOpen]);
    let reason = select(vec![Reason::OpenTimeOver, Reason::TrialPassed]);
    (name(), states(), states(), reason, inputs(), option::of(any::<u64>())).prop_map(
        |(name, from, to, reason, evidence, retry_after_ms)| {
            Fact::Circuit(CircuitChanged { name, from, to, reason, evidence, retry_after_ms })
        },
    )
}

fn changed() -> impl Strategy<Value = AgentChanged> {
    // An exit that nobody knows is left out here, and is not an object of nulls.
    let known = exit().prop_filter("known", |exit| *exit != ExitCodes::default());
    let states = (option::of(state()), state());
    let run = (option::of(any::<u32>()), any::<u64>(), option::of(known));
    (name(), agent_type(), states, any::<String>(), run).prop_map(
        |(name, agent_type, (old_state, new_state), reason, (pid, generation, exit))| {
            AgentChanged {
                name,
                agent_type,
                old_state,
                new_state,
                reason,
                pid,
                generation: Generation(generation),
                exit,
                shown: None,
            }
        },
    )
}

/// A fact of one of the types with a form of their own.
pub(super) fn fact() -> impl Strategy<Value = Fact> {
    let how = select(vec![RecoveryHow::Restart, RecoveryHow::Manual]);
    let recovered =
        (name(), any::<u64>(), any::<u64>(), how).prop_map(|(name, after_ms, attempts, how)| {
            Fact::Recovery(Recovered { name, after_ms, attempts, how })
        });
    let decided = (name(), name(), decision()).prop_map(|(name, supervisor, record)| {
        Fact::Decision(Box::new(Decided { name, supervisor, record }))
    });
    let config = words().prop_map(|words| {
        words.into_iter().map(|(key, value)| (key, serde_json::Value::String(value))).collect()
    });
    let spawned = (changed(), config)
        .prop_map(|(change, config)| Fact::AgentSpawned(Box::new(AgentSpawned { change, config })));
    prop_oneof![
        failed(),
        health(),
        circuit(),
        recovered,
        decided,
        spawned,
        changed().prop_map(|change| Fact::AgentStateChanged(Box::new(change))),
    ]
}

/// A command.
pub(super) fn command() -> impl Strategy<Value = AgentCommand> {
    let spawn = (agent_type(), option::of(name()), vec(any::<String>(), 0..4), words(), words())
        .prop_map(|(agent_type, name, args, env, labels)| {
            AgentCommand::Spawn(SpawnRequest {
                agent_type,
                name,
                args,
                env,
                labels,
                node: None,
                command_line: None,
            })
        });
    let request = (any::<String>(), option::of(any::<u64>()), option::of(any::<String>()))
        .prop_map(|(agent, grace_ms, reason)| AgentRequest { agent, grace_ms, reason });
    let logs = (any::<String>(), option::of(any::<u32>()), option::of(any::<u64>()))
        .prop_map(|(agent, lines, after)| AgentCommand::Logs(LogsRequest { agent, lines, after }));
    prop_oneof![
        spawn,
        request.clone().prop_map(AgentCommand::Stop),
        request.clone().prop_map(AgentCommand::Kill),
        request.prop_map(AgentCommand::Status),
        logs,
        Just(AgentCommand::List(EmptyRequest {})),
    ]
}

fn millis() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

/// A child's spec, durations in whole milliseconds.
pub(super) fn child_spec() -> impl Strategy<Value = ChildSpec> {
    let shutdown = prop_oneof![
        Just(Shutdown::BrutalKill),
        millis().prop_map(Shutdown::Timeout),
        Just(Shutdown::Infinity)
    ];
    let backoff = (millis(), number(), millis()).prop_map(|(initial, factor, max)| BackoffSpec {
        initial,
        factor,
        max,
        jitter: Jitter::Equal,
    });
    let circuit = (any::<u32>(), millis(), millis(), number(), millis(), millis()).prop_map(
        |(intensity, period, open_for, open_factor, open_max, stable_after)| CircuitSpec {
            limit: Limit { intensity, period },
            on_exceeded: OnExceeded::Escalate,
            open_for,
            open_factor,
            open_max,
            stable_after,
        },
    );
    let policy = (backoff, option::of(circuit))
        .prop_map(|(backoff, circuit)| RestartPolicy { backoff, circuit });
    (name(), shutdown, policy, option::of(any::<String>())).prop_map(
        |(name, shutdown, policy, origin)| ChildSpec {
            name,
            kind: ChildKind::Worker,
            restart: RestartType::Transient,
            shutdown,
            significance: Significance::Significant,
            policy,
            origin,
        },
    )
}

/// The words of auto-shutdown have no document of their own; they are checked here.
#[test]
fn auto_shutdown_is_written_in_snake_case() {
    let all = [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];
    let words = serde_json::to_string(&all).unwrap();
    assert_eq!(words, r#"["never","any_significant","all_significant"]"#);
}
