//! One sample of every document about tasks, and what a submission must be.

use jiff::Timestamp;
use provost::protocol::agent::TaskError;
use provost::protocol::fact::Fact;
use provost::protocol::route::Distribution;
use provost::protocol::task::{
    Blame, Priority, SUBMISSION_BYTES_MAX, TaskRecord, TaskRequest, TaskState,
};
use provost::protocol::task_fact::{DeadLettered, DeadOriginal, TaskNoted, TaskResulted};
use serde_json::json;

use crate::wire::check_file;
use crate::wire::samples::{AGENT, decision};

fn error() -> TaskError {
    TaskError {
        code: "rate_limited".to_owned(),
        message: "too many requests".to_owned(),
        retry: true,
        after_ms: Some(30_000),
    }
}

fn noted() -> Box<TaskNoted> {
    Box::new(TaskNoted {
        task_id: "t1".parse().unwrap(),
        agent_id: Some(AGENT.parse().unwrap()),
        attempt: 2,
        token: Some(4_711),
        error: Some(error()),
        decision: decision(),
    })
}

/// One fact of every type, by the name of its golden file.
pub(super) fn facts() -> Vec<(&'static str, Fact)> {
    let resulted = TaskResulted {
        task_type: "review".parse().unwrap(),
        state: TaskState::Completed,
        result: Some(json!({"verdict": "good"})),
        error: None,
        agent_id: Some(AGENT.parse().unwrap()),
        attempt: 2,
    };
    let dead = DeadLettered {
        original: DeadOriginal {
            subject: "coordination.tasks.review".to_owned(),
            id: "t1".to_owned(),
            body: Some(json!({"input": 1})),
            text: None,
            bytes: 11,
        },
        error: error(),
        retry_count: 3,
    };
    vec![
        ("coordination.result", Fact::TaskResult(Box::new(resulted))),
        ("dead_letter", Fact::DeadLetter(Box::new(dead))),
        ("coordination.assigned", Fact::TaskAssigned(noted())),
        ("coordination.requeued", Fact::TaskRequeued(noted())),
        ("coordination.late_result", Fact::LateResult(noted())),
        ("coordination.agent_sick", Fact::AgentSick(noted())),
    ]
}

/// A record with all fields set that can be.
pub(super) fn record() -> TaskRecord {
    let time: Timestamp = "2026-11-20T19:16:18.735Z".parse().unwrap();
    let agent = AGENT.parse().unwrap();
    TaskRecord {
        record: "0192f3c1-0000-7000-8000-0000000000cc".parse().unwrap(),
        task_id: "t1".parse().unwrap(),
        task_type: "review".parse().unwrap(),
        state: TaskState::Failed,
        time,
        accepted_at: time,
        submission: 17,
        part_of: Some("whole".parse().unwrap()),
        parts: [(AGENT.parse().unwrap(), "part-17-1-1".parse().unwrap())].into(),
        previous: 4_711,
        priority: Priority::High,
        submitter: "alice".to_owned(),
        attempt: 2,
        failures: 2,
        max_attempts: 3,
        agent_id: Some(AGENT.parse().unwrap()),
        run: Some("0192f3c1.1".to_owned()),
        lease_ms: Some(300_000),
        token: Some(4_711),
        blamed: [(agent, Blame::Crash)].into(),
        message: Some("3/10".to_owned()),
        progress: Some(provost::protocol::agent::Progress(3.into(), 10.into())),
        result: None,
        error: Some(error()),
        event: Some("0192f3c1-0000-7000-8000-0000000000dd".parse().unwrap()),
        dead_letter: Some("0192f3c1-0000-7000-8000-0000000000ee".parse().unwrap()),
        decision: decision(),
    }
}

const WHOLE: &str = r#"{"input":{"file":"a.rs"},"requirements":{"required_capabilities":["review"],
    "estimated_duration_ms":60000,"priority":"high"},"strategy":"sticky","participants":["w1"],
    "sticky_key":"user-7","deadline_ms":600000,"delay_ms":0,"lease_ms":1000,"max_attempts":3}"#;

#[test]
fn a_submission_and_a_record_are_as_they_were_agreed() {
    let request = TaskRequest::parse(WHOLE.as_bytes()).unwrap();
    check_file("tests/golden/task.json", &request);
    check_file("tests/golden/task.record.json", &record());
    let again: TaskRecord = serde_json::from_value(json!(record())).unwrap();
    assert_eq!(again, record());
    let least = TaskRequest::parse(br#"{"input":null}"#).unwrap();
    assert_eq!(least, TaskRequest::new(json!(null)));
    assert_eq!(serde_json::to_string(&least).unwrap(), r#"{"input":null}"#);
    let null = TaskRequest::parse(br#"{"input":1,"strategy":null}"#).unwrap();
    assert_eq!(null.strategy, None);
    assert_eq!(request.strategy, Some(Distribution::Sticky));
}

#[test]
fn what_is_no_submission_is_refused_with_the_field() {
    let cases = [
        ("", "submission cannot be read: EOF"),
        ("7", "submission cannot be read: invalid type"),
        ("{}", "submission cannot be read: missing field `input`"),
        (r#"{"input":1} 2"#, "submission cannot be read: trailing characters"),
        (r#"{"input":1,"input":2}"#, "submission cannot be read: duplicate field `input`"),
        (r#"{"input":1,"x":2}"#, "submission cannot be read in field \"x\": unknown field `x`"),
        (
            r#"{"input":1,"requirements":{"priority":"huge"}}"#,
            "submission cannot be read in field \"requirements.priority\": unknown variant",
        ),
        (r#"{"input":1,"deadline_ms":-1}"#, "submission cannot be read in field \"deadline_ms\""),
        (r#"{"input":1,"deadline_ms":0}"#, "field \"deadline_ms\" is 0; 1 to 2592000000"),
        (r#"{"input":1,"max_attempts":101}"#, "field \"max_attempts\" is 101; 1 to 100"),
        (r#"{"input":1,"participants":["a b"]}"#, "field \"participants\" is a list with \"a b\""),
        (r#"{"input":1,"strategy":"direct"}"#, "field \"participants\" is empty; the strategy"),
        (r#"{"input":1,"strategy":"sticky"}"#, "field \"sticky_key\" is missing; the strategy"),
        (
            r#"{"input":1,"strategy":"broadcast","completion":{"quorum":0}}"#,
            "field \"completion\" is a quorum of 0; 1 and more",
        ),
        (
            r#"{"input":1,"requirements":{"where":{"capability":""}}}"#,
            "field \"requirements.where\": where has a word of 0 bytes",
        ),
        (r#"{"input":1,"completion":"any"}"#, "field \"completion\" is set; it goes with"),
        (
            r#"{"input":1,"requirements":{"required_capabilities":[""]}}"#,
            "field \"requirements.required_capabilities\" is a list with a word of 0 bytes",
        ),
    ];
    for (text, expected) in cases {
        let error = TaskRequest::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}\n  {error}\n  {expected}");
    }
    let long = vec![b' '; SUBMISSION_BYTES_MAX + 1];
    let error = TaskRequest::parse(&long).unwrap_err().to_string();
    assert_eq!(error, "submission has 1044481 bytes; at most 1044480 are allowed");
}
