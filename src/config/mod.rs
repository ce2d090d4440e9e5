//! Configuration: files, environment and flags become checked types, or all their faults at once.
//!
//! The way of a value: a reader (`toml_reader`; a second one may feed the same tree) turns a file
//! into a `tree` of values that know their place. `layers` puts the trees over one another:
//! defaults < files in order < environment < flags. `walk` holds the result against the `shape` of
//! the format, which is read from the JSON Schema of the `raw` structs, so that what an editor is
//! told and what is enforced cannot differ. What has the right shape goes to `check`, which finds
//! contradictions and builds [`Config`]. No step stops at the first fault, and a faulty value is
//! taken out of the tree, so that later steps judge the rest.
//!
//! Words: a *place* is where a value was written, a *fault* is a reason not to start, a *warning*
//! is none. A *layer* is one file, the environment or the flags.
//!
//! Not here: anything that is done with the settings.

mod env;
mod fault;
mod place;
mod units;

mod interpolate;
mod toml_reader;
mod tree;

mod context;
mod layers;

mod raw;
mod raw_agent;
mod raw_downstream;
mod raw_nats;

mod schema;
mod shape;
mod walk;

mod check;
mod check_agents;
mod check_downstreams;
mod check_nats;
mod check_tree;

mod agent;
mod checked;
mod downstream;
mod load;
mod nats;
mod spec;

pub use self::agent::{
    AgentEntry, AgentType, EnvValue, Pool, Probe, ProbeKind, Probes, SupervisorEntry, TcpTarget,
};
pub use self::check_tree::RESERVED_NAMES;
pub use self::checked::{Config, Coordination, Daemon, Events, Http, Routing, Supervision, Switch};
pub use self::downstream::{
    Breaker, Downstream, DownstreamAuth, DownstreamKind, Endpoint, Resilience, Retry,
};
pub use self::env::Environment;
pub use self::fault::{Fault, Faults};
pub use self::load::{
    FlagState, Loaded, Origins, Overrides, Report, ShowOrigin, ShownKey, Sources, default_files,
    validate,
};
pub use self::nats::{
    Durability, JetStreamApi, Nats, NatsAuth, NatsTarget, NatsTls, OWN_STREAMS, Profile, ServerUrl,
    Storage, StreamSettings, TlsUse,
};
pub use self::place::{FilePlace, Place};
pub use self::raw::{CommandPermission, Distribution};
pub use self::schema::schema_json;
pub use self::spec::SpecError;
pub use self::units::Secret;
