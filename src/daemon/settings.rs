//! From the checked configuration to what each part of the transport takes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{self, Config, Environment, StreamSettings as Wanted};
use crate::logic::routing::{self, BreakerUse};
use crate::logic::severity::Topic;
use crate::protocol::fact::Severity;
use crate::protocol::id::ChildName;
use crate::protocol::spec::OnDaemonExit;
use crate::transport::embedded::{BinarySearch, Durability, EmbeddedSettings};
use crate::transport::outbox::{self, OutboxSettings, PublishMode, SPOOL_FOLDER};
use crate::transport::streams::{
    CoordinationStreams, Storage, StreamProfile, StreamSettings, daemon_streams,
};

/// Name of the environment variable that names the embedded server's program.
const SERVER_VARIABLE: &str = "PROVOST_NATS_SERVER";

/// Folder that `make setup` puts tools into, beside the program's own folder or the present one.
const TOOLS: &str = ".tools/bin";

/// Whether anything that is switched on needs JetStream.
#[must_use]
pub fn needs_jetstream(config: &Config) -> bool {
    config.supervision.is_enabled() || config.coordination.is_enabled()
}

/// The streams to declare; none when nothing needs JetStream.
#[must_use]
pub fn streams(config: &Config) -> Vec<StreamSettings> {
    if !needs_jetstream(config) {
        return Vec::new();
    }
    let profile = profile(config);
    let coordination = if config.coordination.is_enabled() {
        CoordinationStreams::With
    } else {
        CoordinationStreams::Without
    };
    let prefix = &config.provost.subject_prefix;
    let mut streams = daemon_streams(prefix, profile, coordination);
    for (name, wanted) in &config.nats.streams {
        let full = prefix.stream_name(name);
        match streams.iter_mut().find(|stream| stream.name == full) {
            Some(stream) => adjust(stream, wanted),
            None if wanted.subjects.is_empty() => {}
            None => {
                let mut stream = StreamSettings::new(full, wanted.subjects.clone());
                stream.replicas = profile.replicas();
                adjust(&mut stream, wanted);
                streams.push(stream);
            }
        }
    }
    streams
}

fn profile(config: &Config) -> StreamProfile {
    match config.nats.profile {
        config::Profile::Development => StreamProfile::Development,
        config::Profile::Production => StreamProfile::Production,
    }
}

/// Copies of what is kept.
#[must_use]
pub fn replicas(config: &Config) -> usize {
    profile(config).replicas()
}

fn adjust(stream: &mut StreamSettings, wanted: &Wanted) {
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    stream.max_age = wanted.max_age.or(stream.max_age);
    stream.max_bytes = wanted.max_bytes.map(count).or(stream.max_bytes);
    stream.max_messages = wanted.max_messages.map(count).or(stream.max_messages);
    stream.max_messages_per_subject =
        wanted.max_messages_per_subject.map(count).or(stream.max_messages_per_subject);
    stream.replicas = wanted.replicas.map_or(stream.replicas, usize::from);
    stream.duplicate_window = wanted.duplicate_window.unwrap_or(stream.duplicate_window);
    stream.storage = match wanted.storage {
        Some(config::Storage::File) => Storage::File,
        Some(config::Storage::Memory) => Storage::Memory,
        None => stream.storage,
    };
}

/// The embedded server, and where its program may be: the one that is configured, else
/// `PROVOST_NATS_SERVER`, else `.tools/bin` here and beside the program, else PATH.
#[must_use]
pub fn embedded(config: &Config, environment: &Environment) -> EmbeddedSettings {
    let explicit = config.nats.server.clone().or_else(|| {
        let named = environment.filled(SERVER_VARIABLE)?;
        Some(environment.absolute(named, environment.current_dir()))
    });
    let mut folders = vec![environment.current_dir().join(TOOLS)];
    if let Ok(program) = std::env::current_exe() {
        folders.extend(program.ancestors().skip(1).take(4).map(|folder| folder.join(TOOLS)));
    }
    let path = environment.filled("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(path));
    let settings = EmbeddedSettings::new(
        config.provost.node.clone(),
        config.provost.state_dir.clone(),
        BinarySearch { explicit, folders },
    );
    EmbeddedSettings { durability: durability(config.nats.durability), ..settings }
}

/// What becomes of the embedded server when the daemon is killed: it lives on with the agents, so that
/// those that use it keep their connections; where all agents end with the daemon it does too.
#[must_use]
pub fn server_on_daemon_exit(config: &Config) -> OnDaemonExit {
    let mut types = config.agent_types.values();
    let adopts = types.any(|agent_type| agent_type.on_daemon_exit == OnDaemonExit::Adopt);
    if adopts || config.agents.allow_undeclared { OnDaemonExit::Adopt } else { OnDaemonExit::Stop }
}

/// How soon the embedded server has messages on disk.
#[must_use]
pub fn durability(durability: config::Durability) -> Durability {
    match durability {
        config::Durability::Default => Durability::Default,
        config::Durability::Durable => Durability::Durable,
    }
}

/// The event outbox.
#[must_use]
pub fn outbox(config: &Config, name: ChildName) -> OutboxSettings {
    let events = &config.events;
    let spool = config.provost.state_dir.join(SPOOL_FOLDER);
    OutboxSettings {
        bound_events: u64::try_from(events.outbox_max_events).unwrap_or(u64::MAX),
        bound_bytes: events.outbox_max_bytes,
        publish_timeout: events.publish_timeout,
        retry_initial: events.retry_initial,
        retry_max: events.retry_max,
        mode: if needs_jetstream(config) { PublishMode::JetStream } else { PublishMode::Core },
        durability: match config.nats.durability {
            config::Durability::Default => outbox::Durability::ProcessDeath,
            config::Durability::Durable => outbox::Durability::PowerCut,
        },
        prefix: config.provost.subject_prefix.clone(),
        ..OutboxSettings::new(spool, config.provost.node.clone(), name)
    }
}

/// Time between two measurements of a run.
#[must_use]
pub fn measure_every(config: &Config) -> Duration {
    let default = crate::actors::tree::MEASURE_EVERY;
    config.supervision.settings().map_or(default, |settings| settings.health_check_interval)
}

/// How the configuration has tasks routed: as `[routing]` says where it is on, else as
/// `[coordination]` says.
#[must_use]
pub fn routing(config: &Config) -> routing::Settings {
    let section = config.coordination.settings();
    let by_section =
        section.map_or(config::Distribution::RoundRobin, |it| it.task_distribution_strategy);
    match config.routing.settings() {
        None => routing::Settings { distribution: by_section, ..routing::Settings::default() },
        Some(routing) => routing::Settings {
            cache_size: routing.decision_cache_size,
            breaker: if routing.circuit_breaker { BreakerUse::Heeded } else { BreakerUse::Ignored },
            distribution: routing.load_balancing_algorithm,
        },
    }
}

/// Severities that the configuration sets.
#[must_use]
pub fn severities(config: &Config) -> BTreeMap<Topic, Severity> {
    let set = config.supervision.settings().map(|settings| settings.severity.clone());
    let topics = set.unwrap_or_default().into_iter();
    topics.map(|(failure, severity)| (Topic::Failure(failure), severity)).collect()
}
