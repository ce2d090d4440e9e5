//! Builds the tree of the daemon from its configuration.
//!
//! What can be known to fail is tried before anything is started (`preflight`), so that the error
//! says what is wrong in its own words instead of a child's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::actors::defaults::{SystemClock, SystemIds, SystemJitter};
use crate::actors::tree::{Node, TreeHandle, TreePorts, TreeSpec};
use crate::adapters::care::{Desk, Downstream, Start};
use crate::board::Board;
use crate::config::{Config, Http, NatsTarget, SupervisorEntry, Undeclared};
use crate::daemon::adoption::AdoptingRuns;
use crate::daemon::agents::AgentMaker;
use crate::daemon::beats::NatsBeats;
use crate::daemon::coordinator::{CoordinatorService, Parts, Questions, tasks_at_first};
use crate::daemon::error::DaemonError;
use crate::daemon::exporter;
use crate::daemon::handler::{Facts, NatsReader, TreeHandler};
use crate::daemon::insight::deliver::Means;
use crate::daemon::insight::{self, Insight, Watching};
use crate::daemon::nodes::{
    config_error, keeper_options, own, part_spec, sink, supervisor_node, supervisor_spec, wanted,
};
use crate::daemon::registry::Registry;
use crate::daemon::reload::{ReloadParts, Reloader};
use crate::daemon::remotes::NewcomerService;
use crate::daemon::services::{EmbeddedService, Hosted};
use crate::daemon::{Options, downstreams, services, settings};
use crate::logic::ledger::Policies;
use crate::logic::resources::ResourceSpec;
use crate::ports::{CommandHandler, HealthChecks, Ids, Service, WallClock};
use crate::protocol::command::{NatsStatus, TasksStatus};
use crate::protocol::id::ChildName;
use crate::protocol::spec::{ChildSpec, RestartPolicy, Strategy, SupervisorSpec};
use crate::runtimes::keeper::{KeeperService, KeeperSlot, Launched};
use crate::runtimes::remote::{RemoteEnds, Remotes};
use crate::transport::commands::CommandService;
use crate::transport::connect::Connection;
use crate::transport::dead_letter_watch::{DeadLetterWatch, Growth};
use crate::transport::downstreams::CallService;
use crate::transport::embedded::EmbeddedServer;
use crate::transport::micro::MicroIdentity;
use crate::transport::outbox::{Outbox, OutboxService};
use crate::transport::presence::{Identity, Presence, PresenceService};
use crate::transport::remotes::RemoteService;
use crate::transport::resources::{ResourceService, ResourceSettings};
use crate::transport::settings::ConnectSettings;
use crate::transport::slot::{ConnectionService, ConnectionSlot};
use crate::web::{Bound, WebService, WebSources};

/// A daemon ready to be started.
#[derive(Debug)]
pub struct Plan {
    /// The tree.
    pub tree: TreeSpec,
    /// Its handle, which the command endpoints hold already.
    pub handle: TreeHandle,
    /// The keeper, as its users find it.
    pub keeper: KeeperSlot,
    /// The keeper before it has its place in the tree.
    pub launched: Launched,
    /// The connection to NATS, as its users find it.
    pub slot: ConnectionSlot,
    /// Children of this daemon that may claim runs of an earlier one.
    pub wanted: Arc<BTreeSet<ChildName>>,
    /// Carries out commands; signals need it, too.
    pub handler: Arc<TreeHandler>,
}

/// What the parts of the daemon share while it is built.
struct Builder<'a> {
    options: &'a Options,
    config: Arc<Config>,
    outside: Handle,
    slot: ConnectionSlot,
    keeper: KeeperSlot,
    launched: Launched,
    maker: AgentMaker,
    identity: Identity,
    bound: Bound,
    questions: Questions,
    tasks: watch::Sender<TasksStatus>,
    desk: Desk,
}

impl Plan {
    /// Tries what can fail, and builds the tree.
    ///
    /// # Errors
    ///
    /// [`DaemonError`] says what is missing and what to do; nothing is left running.
    pub async fn make(options: &Options, outside: &Handle) -> Result<Self, DaemonError> {
        let config = Arc::new(options.config.config.clone());
        let ids: Arc<dyn Ids> = Arc::new(SystemIds);
        let clock: Arc<dyn WallClock> = Arc::new(SystemClock);
        let registry = Arc::new(Registry::open(&config.provost.state_dir)?);
        let identity = identity(options, (&ids, &clock));
        let connect = ConnectSettings::of(&config)
            .map_err(|error| config_error(&format!("nats.url: {error}")))?;
        let slot = ConnectionSlot::new();
        let outbox_settings = settings::outbox(&config, own("outbox")?);
        let outbox = Outbox::open(
            outbox_settings.clone(),
            slot.clients(outside),
            Arc::clone(&ids),
            Arc::clone(&clock),
        )?;
        let (events, outbox) = outbox;
        let keeper = KeeperSlot::default();
        let variables = options.environment.iter();
        let base_env = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let maker = AgentMaker::new(
            Arc::clone(&config),
            Arc::clone(&registry),
            keeper.clone(),
            Arc::clone(&ids),
            Arc::new(base_env),
        );
        let (remotes, ends) = Remotes::new(options.stop.clone());
        let beats = NatsBeats::new(slot.clone(), outside.clone());
        let maker = maker.with_beats(Arc::new(beats)).with_remotes(remotes.clone());
        // Now, so that the first starts know which runs there are. If anything fails after this,
        // the keeper is left with its runs to the next daemon.
        let launched = keeper.adopt(keeper_options(&config)?).await?;
        let runs = AdoptingRuns::new(Arc::clone(&registry), keeper.clone());
        let wanted = Arc::new(wanted(&config, &registry)?);
        let watching = Watching::of(&config);
        let tap = watching.as_ref().map(|watching| watching.tap.clone());
        let ports = TreePorts {
            sink: sink(Arc::new(events), options, (&outbox_settings, &clock), tap),
            clock: Arc::clone(&clock),
            jitter: Arc::new(SystemJitter),
            runs: Arc::new(runs),
            board: Arc::new(Board::default()),
            severities: Arc::new(settings::severities(&config)),
            measure_every: settings::measure_every(&config),
        };
        let desk = downstreams::desk(&config, &ports, &slot)?;
        let handle = TreeHandle::new(own("root")?, ports);
        let plan_slot = slot.clone();
        let builder = Builder {
            options,
            config,
            outside: outside.clone(),
            slot,
            keeper: keeper.clone(),
            launched: launched.clone(),
            maker,
            identity,
            bound: Bound::default(),
            questions: Questions::default(),
            tasks: watch::Sender::new(tasks_at_first(&options.config.config)),
            desk,
        };
        let commands = builder.handler(&handle, watching.as_ref())?;
        let tree = builder.tree((&handle, &commands), (connect, outbox), (remotes, ends), watching);
        let tree = Box::pin(tree).await?;
        Ok(Self { tree, handle, keeper, launched, slot: plan_slot, wanted, handler: commands })
    }
}

impl Builder<'_> {
    async fn tree(
        &self,
        (handle, handler): (&TreeHandle, &Arc<TreeHandler>),
        (connect, outbox): (ConnectSettings, OutboxService),
        (remotes, ends): (Remotes, RemoteEnds),
        watching: Option<Watching>,
    ) -> Result<TreeSpec, DaemonError> {
        let mut system = self.system(connect, outbox).await?;
        let remotes = RemoteService::new(self.slot.clone(), Arc::new(remotes), ends.orders);
        system.push(self.part("remotes", remotes)?);
        let agents = self.agents()?;
        let (maker, tree) = (self.maker.clone(), handle.clone());
        let newcomers = NewcomerService::new(ends.newcomers, maker, tree, own("agents")?);
        let handler: Arc<dyn CommandHandler> = Arc::<TreeHandler>::clone(handler);
        let mut children = vec![supervisor_node(own("system")?, Strategy::OneForOne, system)?];
        if !self.desk.is_empty() {
            let downstreams = self.downstreams();
            children.push(supervisor_node(own("downstreams")?, Strategy::OneForOne, downstreams)?);
            let calls = CallService::new(self.slot.clone(), Arc::new(self.desk.clone()));
            children.push(self.part("calls", calls)?);
        }
        children.push(supervisor_node(own("agents")?, Strategy::OneForOne, agents)?);
        children.push(self.part("newcomers", newcomers)?);
        if self.config.coordination.is_enabled() {
            let tap = watching.as_ref().map(|watching| watching.tap.clone());
            let parts = Parts { tap, ..self.coordinator(handle) };
            children.push(self.part("coordinator", CoordinatorService::new(parts))?);
        }
        if let Some(watching) = watching {
            let insight = self.insight(handle, Arc::clone(&handler))?;
            children.push(self.part("insight", watching.service(insight))?);
        }
        children.push(self.commands(Arc::clone(&handler))?);
        if let Some(resources) = self.resources(handle) {
            children.push(self.part("resources", resources)?);
        }
        if settings::needs_jetstream(&self.config) {
            let (sink, name) = (Arc::clone(&handle.ports().sink), own("dead_letters")?);
            let watch = DeadLetterWatch::new(self.slot.clone(), sink, name, Growth::default());
            children.push(self.part("dead_letters", watch)?);
        }
        if let Http::Listen(address) = self.config.provost.http {
            children.push(self.part("http", self.web(address, handler, handle))?);
        }
        Ok(TreeSpec::new(SupervisorSpec::new(own("root")?, Strategy::OneForOne), children))
    }

    /// The parts of the daemon, in start order.
    async fn system(
        &self,
        connect: ConnectSettings,
        outbox: OutboxService,
    ) -> Result<Vec<Node>, DaemonError> {
        let mut parts = vec![self.part("keeper", self.keeper_service()?)?];
        let (sender, receiver) = watch::channel(None);
        match &self.config.nats.target {
            NatsTarget::Embedded => {
                let server = EmbeddedServer::open(settings::embedded(
                    &self.config,
                    &self.options.environment,
                ))?;
                // Tried now, for an error in its own words; done again at each start.
                if server.orphan().is_none() {
                    drop(server.prepare()?);
                }
                let service = EmbeddedService {
                    server: Arc::new(server),
                    keeper: self.keeper.clone(),
                    template: connect,
                    settings: sender,
                    agents_url: self.maker.nats_url().clone(),
                    on_daemon_exit: settings::server_on_daemon_exit(&self.config),
                };
                parts.push(self.part(services::SERVER, service)?);
            }
            NatsTarget::Servers(urls) => {
                self.preflight(&connect).await?;
                if let Some(url) = urls.first() {
                    self.maker.nats_url().set(url.reveal().to_owned());
                }
                sender.send_replace(Some(connect));
            }
        }
        let streams = settings::streams(&self.config);
        let nats = ConnectionService::new(self.slot.clone(), receiver, streams);
        parts.push(self.part("nats", nats)?);
        parts.push(self.part("outbox", outbox)?);
        let presence = PresenceService::new(self.slot.clone(), self.identity.clone());
        parts.push(self.part("presence", presence)?);
        Ok(parts)
    }

    /// Connects once, to tell in its own words what does not work: address, credentials, TLS,
    /// version, JetStream, another daemon.
    async fn preflight(&self, connect: &ConnectSettings) -> Result<(), DaemonError> {
        let connection = Connection::open(connect).await.map_err(DaemonError::Connect)?;
        if settings::needs_jetstream(&self.config) {
            connection.require_jetstream().await.map_err(DaemonError::Connect)?;
        }
        let claim = Presence::claim(&connection, self.identity.clone()).await?;
        drop(claim);
        connection.close().await;
        Ok(())
    }

    fn keeper_service(&self) -> Result<KeeperService, DaemonError> {
        let service = KeeperService::new(keeper_options(&self.config)?, self.keeper.clone());
        Ok(service.with(self.launched.clone()))
    }

    /// Agents and the supervisors that the configuration nests, then the agents that were spawned
    /// at run time and not removed since.
    fn agents(&self) -> Result<Vec<Node>, DaemonError> {
        let mut nodes: BTreeMap<ChildName, Node> = BTreeMap::new();
        let mut order = Vec::new();
        for entry in &self.config.agents_list {
            let node = self.maker.entry(entry).map_err(|error| config_error(&error.message))?;
            order.push(entry.name.clone());
            nodes.insert(entry.name.clone(), node);
        }
        let nested = self.nested();
        for (name, downstream) in self.desk.all().filter(|(name, _)| nested.contains(name)) {
            // Those after it in its supervisor's order lean on it.
            nodes.insert(name.clone(), self.downstream(name, downstream, Start::Connected));
        }
        let mut top: Vec<Node> = Vec::new();
        let tops = self.config.supervisors.iter().filter(|(name, _)| !nested.contains(name));
        for (_, entry) in tops {
            top.push(self.team(entry, &mut nodes)?);
        }
        top.extend(order.iter().filter_map(|name| nodes.remove(name)));
        let known: BTreeSet<ChildName> = order.into_iter().collect();
        for (name, request) in self.maker.registry().spawned_before() {
            if known.contains(&name) {
                continue;
            }
            match self.maker.make(&name, &request) {
                Ok(node) => top.push(node),
                Err(error) => {
                    tracing::warn!(agent = %name, error = error.message, "agent not started again");
                }
            }
        }
        Ok(top)
    }

    /// Children of configured supervisors.
    fn nested(&self) -> BTreeSet<&ChildName> {
        let entries = self.config.supervisors.values();
        entries.flat_map(|entry| entry.children.iter()).map(|(name, _)| name).collect()
    }

    /// Downstreams that no configured supervisor has.
    fn downstreams(&self) -> Vec<Node> {
        let nested = self.nested();
        let free = self.desk.all().filter(|(name, _)| !nested.contains(name));
        free.map(|(name, one)| self.downstream(name, one, Start::AtOnce)).collect()
    }

    fn downstream(&self, name: &ChildName, one: &Arc<Downstream>, start: Start) -> Node {
        let origin = self.config.downstreams.get(name).and_then(|settings| settings.origin.clone());
        downstreams::node(name, one, &self.outside, (start, origin))
    }

    /// A configured supervisor with its children, which are taken out of `nodes`.
    fn team(
        &self,
        entry: &SupervisorEntry,
        nodes: &mut BTreeMap<ChildName, Node>,
    ) -> Result<Node, DaemonError> {
        let mut children = Vec::new();
        for (name, significance) in &entry.children {
            let mut node = match self.config.supervisors.get(name) {
                Some(team) => self.team(team, nodes)?,
                None => nodes.remove(name).ok_or_else(|| {
                    config_error(&format!("supervisor {} has no child {name}", entry.spec.name))
                })?,
            };
            Arc::make_mut(&mut node.spec).significance = *significance;
            children.push(node);
        }
        let spec = ChildSpec {
            restart: entry.restart,
            origin: entry.spec.origin.clone(),
            ..supervisor_spec(entry.spec.name.clone(), RestartPolicy::default())
        };
        Ok(Node::supervisor(spec, TreeSpec::new(entry.spec.clone(), children)))
    }

    /// Carries out commands, from wherever they come.
    fn handler(
        &self,
        handle: &TreeHandle,
        watching: Option<&Watching>,
    ) -> Result<Arc<TreeHandler>, DaemonError> {
        let config = &self.config;
        let slot = self.slot.clone();
        let embedded = matches!(config.nats.target, NatsTarget::Embedded);
        let durability = settings::durability(config.nats.durability);
        let read = move || NatsStatus {
            embedded,
            durability: durability.as_str().to_owned(),
            ..slot.status()
        };
        let flags = self.options.config.flags();
        let facts = Facts {
            node: config.provost.node.clone(),
            since: self.identity.since,
            flags: flags.into_iter().map(|flag| (flag.flag.to_owned(), flag.value)).collect(),
            state_dir: config.provost.state_dir.clone(),
            subject_prefix: config.provost.subject_prefix.to_string(),
            agents_supervisor: own("agents")?,
            nats: NatsReader::new(read),
            tasks: self.tasks.subscribe(),
            questions: self.questions.clone(),
            http: self.bound.clone(),
        };
        let stop = self.options.stop.clone();
        let handler = TreeHandler::new(handle.clone(), self.maker.clone(), facts, stop);
        let parts = ReloadParts {
            tree: handle.clone(),
            maker: self.maker.clone(),
            desk: self.desk.clone(),
            outside: self.outside.clone(),
            top: own("agents")?,
        };
        let reloader = Reloader::new(parts, &self.options.config, self.identity.since);
        let handler = handler.with_downstreams(Arc::new(self.desk.clone())).with_reloader(reloader);
        Ok(Arc::new(handler.with_alerts(watching.map(|watching| watching.desk.clone()))))
    }

    fn insight(
        &self,
        handle: &TreeHandle,
        handler: Arc<dyn CommandHandler>,
    ) -> Result<Insight, DaemonError> {
        let means = Means::new(&self.options.environment, &self.config, self.keeper.clone());
        Ok(insight::insight(&self.config, own("insight")?, handle.ports(), (handler, means)))
    }

    fn coordinator(&self, handle: &TreeHandle) -> Parts {
        let ports = handle.ports();
        Parts {
            slot: self.slot.clone(),
            prefix: self.config.provost.subject_prefix.clone(),
            node: self.config.provost.node.clone(),
            instance: self.identity.instance.simple().to_string(),
            channels: self.maker.channels().clone(),
            board: Arc::clone(&ports.board),
            ids: Arc::new(SystemIds),
            clock: Arc::clone(&ports.clock),
            jitter: Arc::clone(&ports.jitter),
            policies: Policies::default(),
            routing: settings::routing(&self.config),
            questions: self.questions.clone(),
            tap: None,
            status: self.tasks.clone(),
        }
    }

    fn web(
        &self,
        address: SocketAddr,
        handler: Arc<dyn CommandHandler>,
        handle: &TreeHandle,
    ) -> WebService {
        let sources = WebSources {
            handler,
            checks: (!self.desk.is_empty())
                .then(|| Arc::new(self.desk.clone()) as Arc<dyn HealthChecks>),
            clock: Arc::clone(&handle.ports().clock),
            metrics: Arc::new(exporter::render),
        };
        let state_dir = self.config.provost.state_dir.clone();
        WebService::new(address, state_dir, sources, self.bound.clone())
    }

    /// Shared resources, where they are shared.
    fn resources(&self, handle: &TreeHandle) -> Option<ResourceService> {
        let coordination = self.config.coordination.settings()?;
        let settings = ResourceSettings {
            declared: self.config.resources.clone(),
            undeclared: match coordination.undeclared_resources {
                Undeclared::Lock => Some(ResourceSpec::LOCK),
                Undeclared::Refuse => None,
            },
            replicas: settings::replicas(&self.config),
        };
        let ports = handle.ports();
        coordination.resource_sharing.then(|| {
            let board = Arc::clone(&ports.board);
            ResourceService::new(self.slot.clone(), settings, board, Arc::clone(&ports.clock))
        })
    }

    fn commands(&self, handler: Arc<dyn CommandHandler>) -> Result<Node, DaemonError> {
        let config = &self.config;
        let identity = MicroIdentity {
            id: self.identity.instance.simple().to_string(),
            node: config.provost.node.clone(),
            prefix: config.provost.subject_prefix.clone(),
            started: self.identity.since,
        };
        let service = CommandService::new(self.slot.clone(), handler, identity);
        self.part("commands", service)
    }

    /// A part of the daemon as a child: restarted for ever, with a growing delay.
    fn part(&self, name: &str, service: impl Service) -> Result<Node, DaemonError> {
        let spec = part_spec(own(name)?);
        let service: Arc<dyn Service> = Arc::new(service);
        let runtime = Arc::new(Hosted::new(service, self.outside.clone()));
        Ok(Node::worker(spec, runtime))
    }
}

/// Who this life of the daemon is.
fn identity(options: &Options, (ids, clock): (&Arc<dyn Ids>, &Arc<dyn WallClock>)) -> Identity {
    Identity {
        node: options.config.config.provost.node.clone(),
        instance: ids.uuid(),
        pid: std::process::id(),
        host: options.environment.host().to_owned(),
        since: clock.now(),
    }
}
