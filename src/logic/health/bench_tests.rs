//! A health machine in virtual time, for its tests.
//!
//! A script is told in milliseconds from the beginning of the run; what the machine orders is
//! written down as text.

use super::*;
use crate::protocol::care::ProbeCheck as Check;

pub(super) const GRACE: Duration = Duration::from_secs(10);

pub(super) fn probe(check: Check) -> ProbeSpec {
    ProbeSpec {
        check,
        initial_delay: Duration::ZERO,
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    }
}

pub(super) fn asked() -> ProbeSpec {
    probe(Check::Tcp("h:1".to_owned()))
}

pub(super) fn only(role: Role, spec: ProbeSpec) -> ProbesSpec {
    let mut probes = ProbesSpec::default();
    match role {
        Role::Startup => probes.startup = Some(spec),
        Role::Readiness => probes.readiness = Some(spec),
        Role::Liveness => probes.liveness = Some(spec),
    }
    probes
}

pub(super) fn with_startup(role: Role) -> ProbesSpec {
    ProbesSpec { startup: Some(asked()), ..only(role, asked()) }
}

/// A beat of a run that takes work.
pub(super) fn beat(every_ms: u64) -> Beat {
    Beat { every: Some(Duration::from_millis(every_ms)), ready: true }
}

/// A machine in virtual time, which answers questions when the test says so.
pub(super) struct Bench {
    pub(super) machine: Health,
    pub(super) begun: Instant,
    pub(super) open: Vec<(Role, u64)>,
    pub(super) log: Vec<String>,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "any instant serves as the origin of a test")]
    pub(super) fn new(probes: &ProbesSpec, beginning: Beginning) -> Self {
        let begun = Instant::now();
        let machine = Health::new(probes, GRACE, beginning, (begun, 0.5));
        let mut bench = Self { machine, begun, open: Vec::new(), log: Vec::new() };
        let orders = bench.machine.on_start(begun);
        bench.take(orders);
        bench
    }

    pub(super) fn fresh(probes: &ProbesSpec) -> Self {
        Self::new(probes, Beginning::Fresh)
    }

    pub(super) fn at(&self, ms: u64) -> Instant {
        self.begun + Duration::from_millis(ms)
    }

    pub(super) fn take(&mut self, orders: Vec<Order>) {
        for order in orders {
            self.log.push(match order {
                Order::Probe { role, number } => {
                    assert!(self.open.iter().all(|(open, _)| *open != role), "overlap of {role}");
                    self.open.push((role, number));
                    format!("ask {role}")
                }
                Order::Started => "started".to_owned(),
                Order::Show(shown) => format!("{:?} {:?}", shown.status, shown.readiness),
                Order::End(verdict) => format!("end {:?}: {}", verdict.kind, verdict.message),
                Order::Kill => "kill".to_owned(),
            });
        }
    }

    /// Lets time pass, and does what is due in it.
    pub(super) fn until(&mut self, ms: u64) -> &mut Self {
        let until = self.at(ms);
        let mut steps = 0;
        while let Some(due) = self.machine.deadline().filter(|due| *due <= until) {
            let orders = self.machine.on_deadline(due);
            self.take(orders);
            steps += 1;
            assert!(steps < 10_000, "time does not pass");
        }
        self
    }

    pub(super) fn answer_with(&mut self, ms: u64, role: Role, outcome: Outcome) -> &mut Self {
        self.until(ms);
        let index = self.open.iter().position(|(open, _)| *open == role);
        let question = self.open.remove(index.unwrap_or_else(|| panic!("{role} was not asked")));
        let orders = self.machine.on_result(self.at(ms), question, outcome);
        self.take(orders);
        self
    }

    pub(super) fn good(&mut self, ms: u64, role: Role) -> &mut Self {
        self.answer_with(ms, role, Outcome::Success { took: Some(Duration::from_millis(7)) })
    }

    pub(super) fn bad(&mut self, ms: u64, role: Role) -> &mut Self {
        self.answer_with(ms, role, Outcome::Failure { took: None, message: "no".to_owned() })
    }

    pub(super) fn says(&mut self, ms: u64, datagram: &str) -> &mut Self {
        self.until(ms);
        let orders = self.machine.on_notice(self.at(ms), &Notice::parse(datagram.as_bytes()));
        self.take(orders);
        self
    }

    pub(super) fn beats(&mut self, ms: u64, beat: Beat) -> &mut Self {
        self.until(ms);
        let orders = self.machine.on_beat(self.at(ms), beat);
        self.take(orders);
        self
    }

    pub(super) fn writes(&mut self, ms: u64) -> &mut Self {
        self.until(ms);
        let orders = self.machine.on_output(self.at(ms));
        self.take(orders);
        self
    }

    /// What was ordered since the last look.
    pub(super) fn check(&mut self, expected: &[&str]) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.log), expected);
        self
    }
}
