//! What a seed makes: a tree with its settings, and the commands that will be given to it.
//!
//! Nothing here runs. `Family` is what the checkers know of the tree: it is written down from the
//! same draw, before anything could change it.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use provost::actors::tree::DynamicChildren;
use provost::protocol::command::CircuitSet;
use provost::protocol::id::ChildName;
use provost::protocol::spec::{
    AutoShutdown, BackoffSpec, ChildKind, ChildSpec, CircuitSpec, Jitter, Limit, OnExceeded,
    RestartPolicy, RestartType, Shutdown, Significance, Strategy, SupervisorSpec,
};

/// Members of one supervisor at most.
const MEMBERS_MAX: usize = 4;

/// Depth of the tree at most, the root included.
const DEPTH_MAX: usize = 3;

/// Commands at most.
const COMMANDS_MAX: usize = 24;

/// Commands of a storm, all at one moment.
const STORM_COMMANDS: usize = 120;

/// Time within which commands are given.
pub(crate) const STORM: Duration = Duration::from_secs(45);

/// One supervisor and its members, in start order.
#[derive(Clone, Debug)]
pub(crate) struct Team {
    pub(crate) spec: SupervisorSpec,
    pub(crate) members: Vec<Member>,
    pub(crate) dynamic: DynamicChildren,
}

/// One child of a supervisor.
#[derive(Clone, Debug)]
pub(crate) enum Member {
    Worker(ChildSpec),
    Team(ChildSpec, Team),
}

/// What is known of one child.
#[derive(Clone, Debug)]
pub(crate) struct Kin {
    pub(crate) spec: ChildSpec,
    pub(crate) parent: ChildName,
    /// Its own settings, if it is a supervisor.
    pub(crate) team: Option<SupervisorSpec>,
    /// It is only what instances are made of.
    pub(crate) template: bool,
    /// It is added by a command, and not there from the beginning.
    pub(crate) added: bool,
    /// What its supervisor does with children when it begins again.
    pub(crate) dynamic: DynamicChildren,
}

/// Everything that is known of a tree.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) root: SupervisorSpec,
    pub(crate) kin: BTreeMap<ChildName, Kin>,
}

/// What is asked of the tree.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Terminate(ChildName),
    TerminateWithin(ChildName, Duration),
    Restart(ChildName),
    Bounce(ChildName),
    Delete(ChildName),
    Reset(ChildName),
    Circuit(ChildName, CircuitSet),
    Add(ChildName),
    KillRun(ChildName),
    Drain(ChildName),
    Undrain(ChildName),
    Pause,
    Resume,
    /// The supervisor's actor panics at the next event that it raises.
    Panic(ChildName),
    /// The wall clock jumps by so many seconds.
    Clock(i64),
    /// NATS is lost for so long, and the outbox forgets what it is told.
    LoseOutbox(Duration),
}

/// All that a seed makes.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) team: Team,
    pub(crate) family: Family,
    pub(crate) commands: Vec<(Duration, Command)>,
}

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let mut draw = Draw { rng: Rng::with_seed(seed), made: 0 };
        let team = draw.team("root".parse().unwrap(), 1);
        let mut family = Family { root: team.spec.clone(), kin: BTreeMap::new() };
        family.enter(&team);
        let commands = draw.commands(&mut family);
        Self { team, family, commands }
    }
}

impl Family {
    fn enter(&mut self, team: &Team) {
        for member in &team.members {
            let (spec, own) = match member {
                Member::Worker(spec) => (spec, None),
                Member::Team(spec, team) => (spec, Some(team.spec.clone())),
            };
            let kin = Kin {
                spec: spec.clone(),
                parent: team.spec.name.clone(),
                team: own,
                template: team.spec.strategy == Strategy::SimpleOneForOne,
                added: false,
                dynamic: team.dynamic,
            };
            self.kin.insert(spec.name.clone(), kin);
            if let Member::Team(_, team) = member {
                self.enter(team);
            }
        }
    }

    /// Settings of a supervisor.
    pub(crate) fn team(&self, name: &ChildName) -> &SupervisorSpec {
        if *name == self.root.name { &self.root } else { self.kin[name].team.as_ref().unwrap() }
    }

    /// All supervisors.
    pub(crate) fn teams(&self) -> Vec<&SupervisorSpec> {
        let below = self.kin.values().filter_map(|kin| kin.team.as_ref());
        std::iter::once(&self.root).chain(below).collect()
    }

    /// Supervisors above a child, the nearest first.
    pub(crate) fn above(&self, child: &ChildName) -> Vec<&ChildName> {
        let mut above = Vec::new();
        let mut at = child;
        while let Some(kin) = self.kin.get(at) {
            above.push(&kin.parent);
            at = &kin.parent;
        }
        above
    }
}

struct Draw {
    rng: Rng,
    made: usize,
}

impl Draw {
    fn name(&mut self, kind: &str) -> ChildName {
        self.made += 1;
        format!("{kind}{}", self.made).parse().unwrap()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(..of.len())].clone()
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(..100) < percent
    }

    fn ms(&mut self, of: &[u64]) -> Duration {
        Duration::from_millis(self.one(of))
    }

    fn limit(&mut self) -> Limit {
        Limit { intensity: self.rng.u32(..5), period: self.ms(&[1_000, 5_000, 20_000]) }
    }

    fn team(&mut self, name: ChildName, depth: usize) -> Team {
        let strategy = match self.rng.u32(..100) {
            0..35 => Strategy::OneForOne,
            35..60 => Strategy::OneForAll,
            60..92 => Strategy::RestForOne,
            _ => Strategy::SimpleOneForOne,
        };
        let limited = if depth == 1 { self.chance(25) } else { self.chance(65) };
        let limit = limited.then(|| self.limit());
        let auto_shutdown = if 1 < depth && self.chance(20) {
            self.one(&[AutoShutdown::AnySignificant, AutoShutdown::AllSignificant])
        } else {
            AutoShutdown::Never
        };
        let spec = SupervisorSpec { limit, auto_shutdown, ..SupervisorSpec::new(name, strategy) };
        let count = match strategy {
            Strategy::SimpleOneForOne => 1,
            _ => 1 + self.rng.usize(..MEMBERS_MAX),
        };
        let members = (0..count).map(|_| self.member(&spec, depth)).collect();
        let keeps = self.chance(70);
        let dynamic = if keeps { DynamicChildren::Keep } else { DynamicChildren::Forget };
        Team { spec, members, dynamic }
    }

    fn member(&mut self, spec: &SupervisorSpec, depth: usize) -> Member {
        let simple = spec.strategy == Strategy::SimpleOneForOne;
        if simple || depth == DEPTH_MAX || self.chance(if depth == 1 { 45 } else { 75 }) {
            return Member::Worker(self.worker(spec));
        }
        let name = self.name("t");
        let team = self.team(name.clone(), depth + 1);
        let shutdown = match self.rng.u32(..100) {
            0..60 => Shutdown::Infinity,
            60..85 => Shutdown::Timeout(self.ms(&[200, 3_000, 20_000])),
            _ => Shutdown::BrutalKill,
        };
        let policy = self.policy(spec.limit);
        let child = ChildSpec {
            kind: ChildKind::Supervisor,
            restart: self.one(&[
                RestartType::Permanent,
                RestartType::Permanent,
                RestartType::Transient,
            ]),
            shutdown,
            policy,
            ..ChildSpec::otp_worker(name)
        };
        Member::Team(child, team)
    }

    fn worker(&mut self, supervisor: &SupervisorSpec) -> ChildSpec {
        let name = self.name("w");
        let restart = match self.rng.u32(..100) {
            0..65 => RestartType::Permanent,
            65..88 => RestartType::Transient,
            _ => RestartType::Temporary,
        };
        let may =
            supervisor.auto_shutdown != AutoShutdown::Never && restart != RestartType::Permanent;
        let significance =
            if may && self.chance(50) { Significance::Significant } else { Significance::Ordinary };
        let shutdown = match self.rng.u32(..100) {
            0..15 => Shutdown::BrutalKill,
            15..85 => Shutdown::Timeout(self.ms(&[100, 1_000, 5_000])),
            _ => Shutdown::Infinity,
        };
        let policy = self.policy(supervisor.limit);
        ChildSpec { restart, significance, shutdown, policy, ..ChildSpec::otp_worker(name) }
    }

    /// Under a supervisor without a limit there has to be a delay, or a crash at the start is a
    /// loop that takes no time.
    fn policy(&mut self, limit: Option<Limit>) -> RestartPolicy {
        if limit.is_some() && self.chance(45) {
            return RestartPolicy::OTP;
        }
        let shortest = if limit.is_some() { 0 } else { 50 };
        let initial = self.ms(&[0, 1, 50, 400, 2_000]).max(Duration::from_millis(shortest));
        let backoff = BackoffSpec {
            initial,
            factor: self.one(&[1.0, 1.5, 2.0, 3.0]),
            max: initial.max(self.ms(&[50, 1_000, 10_000])),
            jitter: self.one(&[Jitter::Full, Jitter::Equal, Jitter::None]),
        };
        let open_for = self.ms(&[100, 2_000, 10_000]);
        let circuit = self.chance(80).then(|| CircuitSpec {
            limit: self.limit(),
            on_exceeded: match self.rng.u32(..100) {
                0..60 => OnExceeded::Quarantine,
                60..80 => OnExceeded::RestartSiblings,
                80..96 => OnExceeded::Escalate,
                _ => OnExceeded::StopTree,
            },
            open_for,
            open_factor: self.one(&[1.0, 2.0, 3.0]),
            open_max: open_for.max(self.ms(&[1_000, 30_000])),
            stable_after: self.ms(&[500, 5_000, 15_000]),
        });
        RestartPolicy { backoff, circuit }
    }

    fn commands(&mut self, family: &mut Family) -> Vec<(Duration, Command)> {
        let count = self.rng.usize(..=COMMANDS_MAX);
        let teams: Vec<ChildName> = family.teams().iter().map(|spec| spec.name.clone()).collect();
        let mut commands = Vec::new();
        let mut at = Duration::ZERO;
        // Sometimes all come at one moment, and many more than anybody would type.
        let storm = self.chance(5);
        let count = if storm { STORM_COMMANDS } else { count };
        for _ in 0..count {
            // A third of the commands comes at the same moment as the one before.
            if at.is_zero() || !storm && !self.chance(33) {
                at = Duration::from_millis(
                    self.rng.u64(..u64::try_from(STORM.as_millis()).unwrap()),
                );
            }
            let command = self.command(family, &teams);
            commands.push((at, command));
        }
        commands.sort_by_key(|(at, _)| *at);
        commands
    }

    fn command(&mut self, family: &mut Family, teams: &[ChildName]) -> Command {
        let names: Vec<ChildName> = family.kin.keys().cloned().collect();
        let name = self.one(&names);
        match self.rng.u32(..100) {
            0..10 => Command::Terminate(name),
            10..15 => Command::TerminateWithin(name, self.ms(&[50, 1_000])),
            15..28 => Command::Restart(name),
            28..38 => Command::Bounce(name),
            38..43 => Command::Delete(name),
            43..53 => Command::Reset(name),
            53..61 => Command::Circuit(
                name,
                self.one(&[CircuitSet::Open, CircuitSet::Closed, CircuitSet::Auto]),
            ),
            61..70 => self.addition(family, teams),
            70..80 => Command::KillRun(name),
            80..83 => Command::Drain(name),
            83..85 => Command::Undrain(name),
            85..88 => Command::Pause,
            88..92 => Command::Resume,
            92..96 if 1 < teams.len() => Command::Panic(self.one(&teams[1..])),
            96..98 => Command::LoseOutbox(self.ms(&[1_000, 10_000, 60_000])),
            _ => Command::Clock(self.one(&[-86_400, -1, 3_600, 40_000_000])),
        }
    }

    fn addition(&mut self, family: &mut Family, teams: &[ChildName]) -> Command {
        let added: Vec<ChildName> =
            family.kin.iter().filter(|(_, kin)| kin.added).map(|(name, _)| name.clone()).collect();
        if !added.is_empty() && self.chance(40) {
            return Command::Add(self.one(&added));
        }
        let parent = self.one(teams);
        let supervisor = family.team(&parent).clone();
        let mut spec = self.worker(&supervisor);
        if supervisor.strategy == Strategy::SimpleOneForOne {
            let template = family.kin.values().find(|kin| kin.template && kin.parent == parent);
            spec = ChildSpec { name: spec.name, ..template.unwrap().spec.clone() };
        }
        let name = spec.name.clone();
        // Those that are added matter to no rule about it.
        let dynamic = DynamicChildren::default();
        let kin = Kin { spec, parent, team: None, template: false, added: true, dynamic };
        family.kin.insert(name.clone(), kin);
        Command::Add(name)
    }
}

impl Command {
    /// The child that it is about.
    pub(crate) fn about(&self) -> Option<&ChildName> {
        match self {
            Self::Terminate(name)
            | Self::TerminateWithin(name, _)
            | Self::Restart(name)
            | Self::Bounce(name)
            | Self::Delete(name)
            | Self::Reset(name)
            | Self::Circuit(name, _)
            | Self::Add(name)
            | Self::KillRun(name)
            | Self::Drain(name)
            | Self::Undrain(name) => Some(name),
            Self::Pause | Self::Resume | Self::Panic(_) | Self::Clock(_) | Self::LoseOutbox(_) => {
                None
            }
        }
    }
}
