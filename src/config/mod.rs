//! Configuration: files, environment and flags become checked types, or all their faults at once.
//!
//! The way of a value: a reader (`toml_reader`, or `hcl_reader` for files that end in `.hcl`) turns
//! a file into a `tree` of values that know their place. `layers` puts the trees over one another:
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

mod ends;
mod env;
mod fault;
mod place;
mod units;

mod hcl_habits;
mod hcl_reader;
mod interpolate;
mod lines;
mod toml_reader;
mod tree;

mod context;
mod layers;

mod raw;
mod raw_agent;
mod raw_alerts;
mod raw_downstream;
mod raw_nats;
mod raw_policies;
mod raw_resources;
mod raw_rules;

mod schema;
mod shape;
mod walk;

mod check;
mod check_agents;
mod check_alerts;
mod check_downstreams;
mod check_exec;
mod check_limits;
mod check_nats;
mod check_policies;
mod check_probes;
mod check_resources;
mod check_rules;
mod check_tree;

mod agent;
mod alerts;
mod blueprint;
mod checked;
mod downstream;
mod load;
mod nats;
mod spawn;
mod spec;
mod users;

pub use crate::config::agent::{AgentEntry, AgentType, EnvValue, Pool, SupervisorEntry};
pub use crate::config::alerts::{
    AlertSettings, OnCritical, Patterns, Receiver, ReceiverKind, Resolved,
};
pub(crate) use crate::config::blueprint::print_of;
pub use crate::config::blueprint::{Written, blueprints};
pub use crate::config::check_tree::RESERVED_NAMES;
pub use crate::config::checked::{
    Config, Coordination, Daemon, Events, Http, Routing, Supervision, Switch, Undeclared,
};
pub use crate::config::downstream::{
    Downstream, DownstreamAuth, DownstreamKind, Endpoint, Fallback, HealthCheck, RateLimit,
    Resilience, Retry, Subscription, SubscriptionSource, Will,
};
pub use crate::config::env::Environment;
pub use crate::config::fault::{Fault, Faults};
pub use crate::config::load::{
    FlagState, Loaded, Origins, Overrides, Report, ShowOrigin, ShownKey, Sources, default_files,
    validate,
};
pub use crate::config::nats::{
    Durability, JetStreamApi, Nats, NatsAuth, NatsTarget, NatsTls, OWN_STREAMS, Profile, ServerUrl,
    Storage, StreamSettings, TlsUse,
};
pub use crate::config::place::{FilePlace, Place};
pub use crate::config::raw::CommandPermission;
pub use crate::config::schema::schema_json;
pub use crate::config::spawn::{
    Additions, EnvPattern, EnvPatternError, SpawnPermission, SpawnRefusal,
};
pub use crate::config::spec::SpecError;
pub use crate::config::units::Secret;
pub use crate::config::users::{Account, AccountEntry, AccountError, account};
pub use crate::protocol::route::Distribution;
