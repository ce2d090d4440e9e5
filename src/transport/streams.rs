//! Which streams there are and what they keep.
//!
//! Settings only; `declare` brings them to the server. No stream covers a subject that requests
//! are sent to, or JetStream's acknowledgement would answer the caller.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::protocol::subject::{SubjectPrefix, pattern};

/// Version of our streams' layout, kept in their metadata; also how a stream of ours is told from
/// somebody else's.
pub const SCHEMA: &str = "1";

/// Metadata key of [`SCHEMA`].
pub const SCHEMA_KEY: &str = "provost.schema";

/// Consumers that one stream may have. Set always, because servers differ in their default.
pub const CONSUMERS_MAX: i32 = 1_000;

/// Default time in which a message with the same `Nats-Msg-Id` is a duplicate.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MIB: i64 = 1024 * 1024;
const GIB: i64 = 1024 * MIB;

/// Patterns of the subjects that requests are sent to.
pub const REQUEST_SUBJECTS: [&str; 8] = [
    "agent.command",
    "system.control",
    "system.presence",
    "coordination.cancel.>",
    "coordination.resources.>",
    "downstream.*.call",
    "downstream.*.publish",
    "downstream.*.status",
];

/// How long messages stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retention {
    /// Until a limit is reached.
    Limits,
    /// Until one consumer has acknowledged them.
    WorkQueue,
    /// Until all consumers have acknowledged them.
    Interest,
}

impl Retention {
    /// The server's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::WorkQueue => "workqueue",
            Self::Interest => "interest",
        }
    }
}

/// Where messages are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Storage {
    /// On disk.
    File,
    /// In memory, until the server ends.
    Memory,
}

impl Storage {
    /// The server's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
        }
    }
}

/// What happens at a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Discard {
    /// The oldest message goes.
    Old,
    /// The new message is refused.
    New,
}

impl Discard {
    /// The server's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

/// Where the streams are kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StreamProfile {
    /// One copy.
    #[default]
    Development,
    /// Three copies, on a cluster.
    Production,
}

impl StreamProfile {
    /// Copies of each stream.
    #[must_use]
    pub fn replicas(self) -> usize {
        match self {
            Self::Development => 1,
            Self::Production => 3,
        }
    }
}

/// Whether the streams of coordination are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CoordinationStreams {
    /// Coordination is off.
    Without,
    /// Coordination is on.
    With,
}

/// One stream as it shall be. A bound of `None` is no bound.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamSettings {
    /// Name at the server.
    pub name: String,
    /// What it is for, for operators.
    pub description: String,
    /// Subjects, prefix included.
    pub subjects: Vec<String>,
    /// Subjects that it must never capture, because requests are sent to them.
    pub never: Vec<String>,
    /// How long messages stay.
    pub retention: Retention,
    /// Where.
    pub storage: Storage,
    /// What happens at a limit.
    pub discard: Discard,
    /// Longest age.
    pub max_age: Option<Duration>,
    /// Most bytes.
    pub max_bytes: Option<i64>,
    /// Most messages.
    pub max_messages: Option<i64>,
    /// Most messages of one subject.
    pub max_messages_per_subject: Option<i64>,
    /// Largest message.
    pub max_message_bytes: Option<i32>,
    /// Copies.
    pub replicas: usize,
    /// Time in which the same `Nats-Msg-Id` is a duplicate.
    pub duplicate_window: Duration,
    /// Most consumers; set when the stream is made, since not every server can change it.
    pub consumers_max: i32,
}

impl StreamSettings {
    /// A stream kept on disk with one copy, no bound and the default duplicate window.
    #[must_use]
    pub fn new(name: impl Into<String>, subjects: Vec<String>) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            subjects,
            never: Vec::new(),
            retention: Retention::Limits,
            storage: Storage::File,
            discard: Discard::Old,
            max_age: None,
            max_bytes: None,
            max_messages: None,
            max_messages_per_subject: None,
            max_message_bytes: None,
            replicas: 1,
            duplicate_window: DUPLICATE_WINDOW,
            consumers_max: CONSUMERS_MAX,
        }
    }

    /// Domain events of a library user (`<app>.domain.>`): 30 days, 10 GB, 1,000,000 messages.
    #[must_use]
    pub fn domain_events(app: &SubjectPrefix, profile: StreamProfile) -> Self {
        Self {
            description: "Domain events.".to_owned(),
            max_age: Some(30 * DAY),
            max_bytes: Some(10 * GIB),
            max_messages: Some(1_000_000),
            replicas: profile.replicas(),
            never: app_requests(app),
            ..Self::new(app.stream_name("DOMAIN"), vec![app.apply("domain.>")])
        }
    }

    /// Integration events of a library user (`<app>.integration.{external,webhook,sync}.>`): 7
    /// days, 5 GB, 500,000 messages, 1 minute of duplicates.
    #[must_use]
    pub fn integration_events(app: &SubjectPrefix, profile: StreamProfile) -> Self {
        let subjects =
            ["external", "webhook", "sync"].map(|kind| app.apply(&format!("integration.{kind}.>")));
        Self {
            description: "Integration events.".to_owned(),
            max_age: Some(7 * DAY),
            max_bytes: Some(5 * GIB),
            max_messages: Some(500_000),
            replicas: profile.replicas(),
            duplicate_window: Duration::from_secs(60),
            never: app_requests(app),
            ..Self::new(app.stream_name("INTEGRATION"), subjects.to_vec())
        }
    }

    /// The stream as the server's API writes it. Absent bounds are -1 or 0, as the server does.
    #[must_use]
    pub(crate) fn document(&self) -> Map<String, Value> {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let fields = [
            ("name", json!(self.name)),
            ("description", json!(self.description)),
            ("subjects", json!(self.subjects)),
            ("retention", json!(self.retention.as_str())),
            ("storage", json!(self.storage.as_str())),
            ("discard", json!(self.discard.as_str())),
            ("max_age", json!(self.max_age.map_or(0, nanoseconds))),
            ("max_bytes", json!(self.max_bytes.unwrap_or(-1))),
            ("max_msgs", json!(self.max_messages.unwrap_or(-1))),
            ("max_msgs_per_subject", json!(self.max_messages_per_subject.unwrap_or(-1))),
            ("max_msg_size", json!(self.max_message_bytes.unwrap_or(-1))),
            ("num_replicas", json!(self.replicas)),
            ("duplicate_window", json!(nanoseconds(self.duplicate_window))),
            ("max_consumers", json!(self.consumers_max)),
            ("metadata", json!({ SCHEMA_KEY: SCHEMA })),
        ];
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// Commands and queries of a library user are requests.
fn app_requests(app: &SubjectPrefix) -> Vec<String> {
    vec![app.apply("command.>"), app.apply("query.>")]
}

/// The streams that a daemon needs.
#[must_use]
pub fn daemon_streams(
    prefix: &SubjectPrefix,
    profile: StreamProfile,
    coordination: CoordinationStreams,
) -> Vec<StreamSettings> {
    let stream = |name: &str, subjects: &[&str], description: &str| StreamSettings {
        description: description.to_owned(),
        replicas: profile.replicas(),
        never: REQUEST_SUBJECTS.iter().map(|request| prefix.apply(request)).collect(),
        ..StreamSettings::new(
            prefix.stream_name(name),
            subjects.iter().map(|subject| prefix.apply(subject)).collect(),
        )
    };
    let mut streams = vec![
        StreamSettings {
            max_age: Some(7 * DAY),
            max_bytes: Some(2 * GIB),
            ..stream(
                "SUPERVISION",
                &pattern::STREAM_SUPERVISION,
                "Failures, recoveries, decisions and circuits of provost's children.",
            )
        },
        StreamSettings {
            max_age: Some(24 * HOUR),
            max_bytes: Some(512 * MIB),
            max_messages_per_subject: Some(200),
            ..stream(
                "HEALTH",
                &pattern::STREAM_HEALTH,
                "Health of provost's children at intervals.",
            )
        },
        StreamSettings {
            max_age: Some(30 * DAY),
            max_bytes: Some(GIB),
            ..stream("DEAD_LETTERS", &pattern::STREAM_DEAD_LETTERS, "What could not be done.")
        },
    ];
    match coordination {
        CoordinationStreams::Without => {}
        CoordinationStreams::With => streams.extend(coordination_streams(stream)),
    }
    streams
}

fn coordination_streams(
    stream: impl Fn(&str, &[&str], &str) -> StreamSettings,
) -> [StreamSettings; 3] {
    [
        // An accepted task must not make room for another, nor go with time: it stays until it has
        // ended, and a full stream refuses.
        StreamSettings {
            max_bytes: Some(GIB),
            retention: Retention::WorkQueue,
            discard: Discard::New,
            ..stream("TASKS", &pattern::STREAM_TASKS, "Tasks on their way to the coordinator.")
        },
        StreamSettings {
            max_age: Some(30 * DAY),
            max_bytes: Some(2 * GIB),
            max_messages_per_subject: Some(256),
            ..stream("TASK_LOG", &pattern::STREAM_TASK_LOG, "The life of every task.")
        },
        StreamSettings {
            max_age: Some(24 * HOUR),
            max_bytes: Some(512 * MIB),
            ..stream("REPLIES", &pattern::STREAM_REPLIES, "Answers of remote agents.")
        },
    ]
}

/// Whether some subject matches both patterns.
#[must_use]
pub fn overlap(left: &str, right: &str) -> bool {
    let mut left = left.split('.');
    let mut right = right.split('.');
    loop {
        match (left.next(), right.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(_), None) | (None, Some(_)) => return false,
            (Some(one), Some(other)) if one == "*" || other == "*" || one == other => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> SubjectPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_overlap_when_one_subject_fits_both() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.*", true),
            ("a.b", "a.c", false),
            (">", "x", true),
        ];
        for (left, right, expected) in cases {
            assert_eq!(overlap(left, right), expected, "{left} {right}");
            assert_eq!(overlap(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn no_stream_covers_a_request_subject_or_another_stream() {
        for prefix in [prefix(""), prefix("acme.prod")] {
            let profile = StreamProfile::Production;
            let streams = daemon_streams(&prefix, profile, CoordinationStreams::With);
            let ours: Vec<&String> = streams.iter().flat_map(|stream| &stream.subjects).collect();
            let requests: Vec<String> = REQUEST_SUBJECTS.map(|one| prefix.apply(one)).to_vec();
            for (at, subject) in ours.iter().enumerate() {
                let taken = requests.iter().find(|request| overlap(subject, request));
                assert_eq!(taken, None, "{subject}");
                let again = ours[at + 1..].iter().find(|other| overlap(subject, other));
                assert_eq!(again, None, "{subject}");
            }
            assert!(streams.iter().all(|stream| stream.never == requests));
        }
    }

    #[test]
    fn streams_follow_switches_profile_and_prefix() {
        let without =
            daemon_streams(&prefix(""), StreamProfile::Development, CoordinationStreams::Without);
        let names: Vec<&str> = without.iter().map(|stream| &*stream.name).collect();
        assert_eq!(names, ["SUPERVISION", "HEALTH", "DEAD_LETTERS"]);
        assert!(without.iter().all(|stream| stream.replicas == 1));
        let with = daemon_streams(
            &prefix("acme.prod"),
            StreamProfile::Production,
            CoordinationStreams::With,
        );
        let names: Vec<&str> = with.iter().map(|stream| &*stream.name).collect();
        assert_eq!(
            names,
            [
                "acme_prod_SUPERVISION",
                "acme_prod_HEALTH",
                "acme_prod_DEAD_LETTERS",
                "acme_prod_TASKS",
                "acme_prod_TASK_LOG",
                "acme_prod_REPLIES"
            ]
        );
        assert!(with.iter().all(|stream| stream.replicas == 3));
        assert_eq!(with[1].subjects, ["acme.prod.supervision.health.>"]);
        assert!(with.iter().all(|stream| stream.duplicate_window == DUPLICATE_WINDOW));
    }

    #[test]
    fn library_streams_have_their_documented_limits() {
        let app = prefix("shop");
        let domain = StreamSettings::domain_events(&app, StreamProfile::Development);
        assert_eq!(domain.subjects, ["shop.domain.>"]);
        assert_eq!((domain.max_age, domain.max_messages), (Some(30 * DAY), Some(1_000_000)));
        assert_eq!(domain.max_bytes, Some(10 * GIB));
        let integration = StreamSettings::integration_events(&app, StreamProfile::Production);
        assert_eq!(integration.duplicate_window, Duration::from_secs(60));
        assert_eq!((integration.max_bytes, integration.replicas), (Some(5 * GIB), 3));
    }
}
