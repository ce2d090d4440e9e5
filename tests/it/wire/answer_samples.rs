//! One sample of every answer to a command.

use provost::protocol::command::{Answer, CommandError, ErrorKind, LogLines};
use provost::protocol::decision::{DecisionRecord, Inputs, NextAction, NextKind, Reason, Rule};
use provost::protocol::reload::{ChangeOf, ChangeOp, ConfigChange, ConfigPlan, Effect};
use provost::protocol::route::{Against, Candidate, Distribution, RouteAnswer, Standing};

use crate::wire::samples::{agent_status, other_statuses, system, tree};

fn plan() -> ConfigPlan {
    ConfigPlan {
        fingerprint: "00f1c2d3e4a5b697".to_owned(),
        files: vec!["provost.toml".to_owned()],
        changes: vec![ConfigChange {
            op: ChangeOp::Change,
            what: ChangeOf::Agent,
            name: "w1".to_owned(),
            key: Some("command".to_owned()),
            from: Some("[\"sleep\",\"1\"]".to_owned()),
            to: Some("[\"sleep\",\"2\"]".to_owned()),
            effect: Effect::RestartsChildren,
            restarts: vec!["w1".parse().unwrap()],
            why: Some("it is part of the agent's run".to_owned()),
            origin: Some("provost.toml:12".to_owned()),
        }],
        done: false,
        warnings: vec!["doubtful".to_owned()],
    }
}

/// Two agents; one lacks something and does not run.
fn route() -> RouteAnswer {
    let status = agent_status();
    let picked = Candidate {
        agent_id: status.agent_id.clone(),
        name: status.name.clone(),
        picked: true,
        score: Some(0.25),
        inflight: 1,
        slots: 4,
        weight: 4,
        against: Vec::new(),
    };
    let other = Candidate {
        agent_id: "w2".parse().unwrap(),
        name: "w2".parse().unwrap(),
        picked: false,
        score: None,
        inflight: 0,
        slots: 1,
        weight: 1,
        against: vec![
            Against::LacksCapability { capability: "review".to_owned() },
            Against::NotRoutable { standing: Standing::CircuitOpen },
        ],
    };
    let decision = DecisionRecord {
        reason: Reason::AgentPicked,
        inputs: Inputs::default().with("agent", status.agent_id.as_str()).with("inflight", 1_u32),
        rule: Rule { distribution: Some(Distribution::LeastLoaded), ..Rule::default() },
        cause: None,
        next: NextAction { action: NextKind::Assign, in_ms: 0 },
    };
    RouteAnswer {
        strategy: Distribution::LeastLoaded,
        picked: vec![status.agent_id],
        decision,
        candidates: vec![picked, other],
    }
}

/// One answer of every shape, by the name of its golden file.
pub(super) fn answers() -> Vec<(&'static str, Answer)> {
    let lines = vec!["started".to_owned(), "tick 1".to_owned()];
    let refusal = CommandError::new(
        ErrorKind::UnknownAgent,
        "no agent \"w9\"; 2 agents are known",
        "list them with `provost list`",
    );
    vec![
        ("done", Answer::done()),
        ("agent", Answer::agent(agent_status())),
        ("agents", Answer { agents: Some(other_statuses()), ..Answer::done() }),
        ("tree", Answer { tree: Some(Box::new(tree())), ..Answer::done() }),
        ("system", Answer { system: Some(Box::new(system())), ..Answer::done() }),
        (
            "logs",
            Answer { logs: Some(LogLines { lines, next: 15, lost_bytes: 0 }), ..Answer::done() },
        ),
        ("plan", Answer { plan: Some(Box::new(plan())), ..Answer::done() }),
        ("route", Answer { route: Some(Box::new(route())), ..Answer::done() }),
        ("alerts", crate::wire::insight_samples::answer()),
        ("error", Answer::from(refusal)),
    ]
}
