//! provost keeps workers and the services they lean on alive: OTP's supervision for everything that
//! is not Erlang, with events on NATS and an answer to *why* for every decision.
//!
//! This page is the map of the code.
//!
//! # Floors
//!
//! A file imports only from lower floors; `tests/it/layers.rs` checks it.
//!
//! | floor | modules | what |
//! |---|---|---|
//! | 6 | [`cli`] | what people type and see |
//! | 5 | [`daemon`] | builds everything, runs it, stops it; the only place that knows all |
//! | 4 | [`actors`] | supervisors and workers: state, messages, timers; no decision of their own |
//! | 4 | [`runtimes`] | how an agent runs: a process through the keeper, elsewhere, or inside the daemon; its probes |
//! | 4 | [`transport`] | our own NATS: connection, embedded server, streams, outbox, commands |
//! | 4 | [`adapters`] | how a downstream is reached |
//! | 4 | [`web`] | liveness, health, metrics and documents over HTTP |
//! | 3 | [`ports`], [`board`], [`metrics`], [`config`] | traits, statuses, metric names, settings |
//! | 2 | [`logic`] | every decision: pure, without clock, task or chance |
//! | 1 | [`protocol`] | every type that leaves the process |
//!
//! # A crash, from the exit to the event
//!
//! 1. The keeper ([`runtimes::keeper`]), a small process of its own, reaps the agent's process and
//!    tells the daemon.
//!    What the end means, the exit rules say ([`runtimes::judged`], [`logic::exit_rules`]).
//! 2. The worker (`actors::worker`) drops the run and reports its end, the last word of that run.
//! 3. The supervisor ([`actors::supervisor`]) hears of it when nothing of the run is left, and asks
//!    [`logic::restart`].
//! 4. The machine decides: restart now or after a backoff, restart siblings too, open the circuit,
//!    give up. Each decision is a record of reason, numbers, rule and what comes next
//!    ([`protocol::decision`]).
//! 5. The shell (`actors::shell`) carries the decision out in the machine's order: it raises the
//!    failure's events, starts the replacement, and writes the [`board`].
//! 6. The outbox ([`transport::outbox`]) writes each event to a spool file and publishes it until
//!    it is acknowledged.
//!
//! # A task, from the submission to the result
//!
//! 1. The publish to `coordination.tasks.<type>` is acknowledged: the stream has it until it ends.
//! 2. The coordinator (`daemon::coordinator`) puts it into the ledger ([`logic::ledger`]), which
//!    says what comes next; an agent is picked, and the `assigned` record is written with compare
//!    and set: its sequence is the token ([`transport::tasks`]).
//! 3. The agent's channel ([`runtimes::channels`]) takes the order; news come back through it, or
//!    through a stream for remote agents. A run that is over is one more piece of news.
//! 4. The terminal record is written the same way, then the dead letter if there is one, then the
//!    result event; then the submission is acknowledged and gone.
//!
//! # A call of a downstream
//!
//! A handle ([`adapters::handles`]) or a request on NATS ([`transport::downstreams`]) goes through
//! [`adapters::call`]: deadline, fallback, rate limit, the circuit's permit, bulkhead, retry, and so
//! to the adapter. Its result settles the permit; a change of the circuit becomes an event. The
//! child ([`adapters::care`]) keeps the session and checks it; what fails there is in the same
//! account.
//!
//! # The tree
//!
//! ```text
//! root (one_for_one)
//! ├── system (one_for_one)      parts of the daemon are children like any other
//! │   ├── keeper                starts and reaps processes
//! │   ├── nats_server           only when no other server is configured
//! │   ├── nats                  the connection, the streams, the claim to the prefix
//! │   ├── outbox                delivers events
//! │   ├── presence              claims the prefix
//! │   └── remotes               hears the beats of remote agents, publishes orders to them
//! ├── downstreams (one_for_one) the services that agents call, unless a supervisor of the
//! │                             configuration has them; only where there are some
//! ├── calls                     `downstream.<name>.call`, `.publish`, `.status`
//! ├── agents (one_for_one)      agents, and the supervisors that the configuration nests
//! ├── newcomers                 makes entries for remote agents that nobody declared
//! ├── coordinator               gives tasks to agents; only with coordination
//! ├── insight                   finds patterns in events, raises alerts; only with supervision
//! ├── commands                  `agent.command` and `system.control`
//! └── http                      health, metrics and documents, on loopback
//! ```
//!
//! It starts from the top down and stops from the bottom up, so that no command arrives without an
//! agent and no event is raised without an outbox.
//!
//! # A killed daemon
//!
//! Keeper and agents live on. The next daemon takes the lock of the state folder and, before it builds
//! its tree, finds the keeper, or launches one that takes over what a killed keeper left. So it knows
//! which runs live: the first start of such an agent gets the generation of its run and adopts it
//! instead of beginning one. What ended meanwhile begins and ends at once, and so becomes an ordinary
//! failure. What nobody claims is ended. The mechanics are on the page of [`runtimes::keeper`].
//!
//! # What never happens
//!
//! - `logic` and `protocol` never read a clock, an environment or a random number.
//! - Nothing on the supervision thread waits: board, outbox and metrics return at once.
//! - No event is accepted and then forgotten without a `gap` event that counts it.
//! - No two runs of one agent live at the same time.
//! - No generation is used twice.
//! - No task ends twice, and no result of a fenced attempt is applied.
//! - Nothing listens beyond loopback unless it is configured.
//!
//! # Where to start
//!
//! [`protocol::subject`] → [`logic`] → [`logic::restart`] → [`actors`] → [`daemon`]. To embed a tree
//! in a program of one's own: [`actors::tree`] and `examples/embedded_tree.rs`.

#[cfg(panic = "abort")]
compile_error!("provost catches panics of its children: build it with panic = \"unwind\"");

pub mod protocol;

pub mod logic;

pub mod board;
pub mod config;
pub mod metrics;
pub mod ports;

pub mod actors;
pub mod adapters;
pub mod runtimes;
pub mod transport;
pub mod web;

pub mod daemon;

pub mod cli;
