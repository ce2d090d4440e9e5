//! What a NATS micro service says about itself (`$SRV.PING|INFO|STATS`).
//!
//! Written here and not taken from the client library, whose own service ends its answering task
//! at the first failed publish, keeps metadata out of STATS and cannot be stopped in order. The
//! documents follow the published schemas `io.nats.micro.v1.*`, and the subjects are outside any
//! subject prefix, because discovery is.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::protocol::id::NodeName;
use crate::protocol::subject::SubjectPrefix;

/// Name of the service.
pub const SERVICE: &str = "provost";

/// Queue group of its endpoints: one of several equal members answers.
pub const QUEUE_GROUP: &str = "q";

/// Header that carries an error's text.
pub const ERROR_HEADER: &str = "Nats-Service-Error";

/// Header that carries an error's number.
pub const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";

/// The question that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verb {
    Ping,
    Info,
    Stats,
}

impl Verb {
    pub(crate) const ALL: [Self; 3] = [Self::Ping, Self::Info, Self::Stats];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        }
    }

    /// The subjects on which it is asked: everybody, every provost, this one.
    pub(crate) fn subjects(self, id: &str) -> [String; 3] {
        let verb = self.as_str();
        [
            format!("$SRV.{verb}"),
            format!("$SRV.{verb}.{SERVICE}"),
            format!("$SRV.{verb}.{SERVICE}.{id}"),
        ]
    }
}

/// Who the service is.
#[derive(Clone, Debug)]
pub struct MicroIdentity {
    /// Instance, unique among all services: letters, digits, `-` and `_`.
    pub id: String,
    /// Node.
    pub node: NodeName,
    /// Prefix of the endpoints' subjects.
    pub prefix: SubjectPrefix,
    /// Since when it runs.
    pub started: Timestamp,
}

impl MicroIdentity {
    fn head(&self, kind: &'static str) -> Head<'_> {
        let metadata = BTreeMap::from([
            ("node", self.node.as_str()),
            ("subject_prefix", self.prefix.as_str()),
        ]);
        Head { kind, name: SERVICE, id: &self.id, version: env!("CARGO_PKG_VERSION"), metadata }
    }
}

#[derive(Serialize)]
struct Head<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    id: &'a str,
    version: &'static str,
    metadata: BTreeMap<&'static str, &'a str>,
}

/// One endpoint and its counts.
#[derive(Debug)]
pub(crate) struct Endpoint {
    name: &'static str,
    subject: String,
    counts: Mutex<Counts>,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    requests: u64,
    errors: u64,
    last_error: String,
    processing: Duration,
}

impl Endpoint {
    pub(crate) fn new(name: &'static str, subject: String) -> Self {
        Self { name, subject, counts: Mutex::default() }
    }

    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Counts a request that was answered well.
    pub(crate) fn answered(&self, took: Duration) {
        self.count(took, None);
    }

    /// Counts a request that was refused or failed.
    pub(crate) fn refused(&self, took: Duration, error: &str) {
        self.count(took, Some(error));
    }

    fn count(&self, took: Duration, error: Option<&str>) {
        let mut counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        counts.requests = counts.requests.saturating_add(1);
        counts.processing = counts.processing.saturating_add(took);
        if let Some(error) = error {
            counts.errors = counts.errors.saturating_add(1);
            error.clone_into(&mut counts.last_error);
        }
    }

    fn info(&self) -> EndpointInfo<'_> {
        EndpointInfo {
            name: self.name,
            subject: &self.subject,
            queue_group: QUEUE_GROUP,
            metadata: BTreeMap::from([("format", "application/json")]),
        }
    }

    fn stats(&self) -> EndpointStats<'_> {
        let counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let processing_time = nanoseconds(counts.processing);
        EndpointStats {
            name: self.name,
            subject: &self.subject,
            queue_group: QUEUE_GROUP,
            num_requests: counts.requests,
            num_errors: counts.errors,
            last_error: counts.last_error,
            processing_time,
            average_processing_time: processing_time.checked_div(counts.requests).unwrap_or(0),
        }
    }
}

#[derive(Serialize)]
struct EndpointInfo<'a> {
    name: &'static str,
    subject: &'a str,
    queue_group: &'static str,
    metadata: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct EndpointStats<'a> {
    name: &'static str,
    subject: &'a str,
    queue_group: &'static str,
    num_requests: u64,
    num_errors: u64,
    last_error: String,
    processing_time: u64,
    average_processing_time: u64,
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    description: &'static str,
    endpoints: Vec<EndpointInfo<'a>>,
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    started: Timestamp,
    endpoints: Vec<EndpointStats<'a>>,
}

/// The answer to a question about the service.
pub(crate) fn answer<'a>(
    verb: Verb,
    identity: &MicroIdentity,
    endpoints: impl Iterator<Item = &'a Endpoint>,
) -> Vec<u8> {
    let written = match verb {
        Verb::Ping => serde_json::to_vec(&identity.head("io.nats.micro.v1.ping_response")),
        Verb::Info => serde_json::to_vec(&Info {
            head: identity.head("io.nats.micro.v1.info_response"),
            description: "Supervises agents and the services that they call.",
            endpoints: endpoints.map(Endpoint::info).collect(),
        }),
        Verb::Stats => serde_json::to_vec(&Stats {
            head: identity.head("io.nats.micro.v1.stats_response"),
            started: identity.started,
            endpoints: endpoints.map(Endpoint::stats).collect(),
        }),
    };
    // Text and numbers can always be written.
    written.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn asked(verb: Verb) -> Value {
        let identity = MicroIdentity {
            id: "i1".to_owned(),
            node: "n1".parse().unwrap(),
            prefix: "acme".parse().unwrap(),
            started: Timestamp::UNIX_EPOCH,
        };
        let endpoint = Endpoint::new("agent-command", "acme.agent.command".to_owned());
        endpoint.answered(Duration::from_nanos(10));
        endpoint.refused(Duration::from_nanos(30), "invalid_request: x");
        serde_json::from_slice(&answer(verb, &identity, [&endpoint].into_iter())).unwrap()
    }

    #[test]
    fn discovery_documents_follow_the_published_schemas() {
        let metadata = json!({"node": "n1", "subject_prefix": "acme"});
        let version = env!("CARGO_PKG_VERSION");
        let ping = json!({"type": "io.nats.micro.v1.ping_response", "name": "provost", "id": "i1",
            "version": version, "metadata": metadata});
        assert_eq!(asked(Verb::Ping), ping);
        let info = asked(Verb::Info);
        assert_eq!(info["endpoints"][0]["subject"], "acme.agent.command");
        assert_eq!(info["endpoints"][0]["queue_group"], "q");
        let stats = asked(Verb::Stats);
        assert_eq!(stats["started"], "1970-01-01T00:00:00Z");
        let endpoint = &stats["endpoints"][0];
        assert_eq!((&endpoint["num_requests"], &endpoint["num_errors"]), (&json!(2), &json!(1)));
        assert_eq!(endpoint["average_processing_time"], 20);
        assert_eq!(endpoint["last_error"], "invalid_request: x");
    }

    #[test]
    fn a_service_is_asked_by_all_by_name_and_by_id() {
        let subjects = Verb::Ping.subjects("i1");
        assert_eq!(subjects, ["$SRV.PING", "$SRV.PING.provost", "$SRV.PING.provost.i1"]);
    }
}
