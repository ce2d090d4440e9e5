//! What goes beyond OTP, rule by rule: backoff, circuit, throttling, calls, pauses, generations.
//! OTP's own rules are held by the recorded traces in `tests/oracle`.

use std::time::{Duration, Instant};

use crate::logic::restart::{
    Action, Call, CallId, EndScope, Generations, Input, Note, Pace, Phase, Reply, StartOutcome,
    Supervisor, Trial,
};
use crate::protocol::command::CircuitSet;
use crate::protocol::decision::{DecisionRecord, Input as Number};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::{
    AutoShutdown, BackoffSpec, ChildSpec, CircuitSpec, Jitter, Limit, OnExceeded, RestartPolicy,
    RestartType, Strategy, SupervisorSpec,
};

/// A machine, virtual time, and everything that it did as lines of text.
struct Desk {
    now: Instant,
    machine: Supervisor,
    jitter: f64,
    records: Vec<DecisionRecord>,
}

/// 200 ms doubled to 1 s; 2 restarts in 60 s, open for 30 s doubled to 100 s; stable after 10 s.
fn policy(on_exceeded: OnExceeded) -> RestartPolicy {
    RestartPolicy {
        backoff: BackoffSpec {
            initial: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(1),
            jitter: Jitter::None,
        },
        circuit: Some(CircuitSpec {
            limit: Limit { intensity: 2, period: Duration::from_secs(60) },
            on_exceeded,
            open_for: Duration::from_secs(30),
            open_factor: 2.0,
            open_max: Duration::from_secs(100),
            stable_after: Duration::from_secs(10),
        }),
    }
}

fn child(name: &str) -> ChildSpec {
    let policy = policy(OnExceeded::Quarantine);
    ChildSpec { policy, ..ChildSpec::otp_worker(name.parse().unwrap()) }
}

#[expect(clippy::disallowed_methods, reason = "any instant serves as the origin of a test")]
fn desk(strategy: Strategy, children: Vec<ChildSpec>) -> Desk {
    let spec = SupervisorSpec {
        name: "sup".parse().unwrap(),
        strategy,
        limit: None,
        auto_shutdown: AutoShutdown::Never,
        origin: Some("tree.toml:1".into()),
    };
    let machine = Supervisor::new(spec, children).unwrap();
    Desk { now: Instant::now(), machine, jitter: 0.5, records: Vec::new() }
}

/// The same, with all children up.
fn running(strategy: Strategy, children: Vec<ChildSpec>) -> Desk {
    let names: Vec<ChildName> = children.iter().map(|child| child.name.clone()).collect();
    let mut desk = desk(strategy, children);
    desk.feed(Input::Init);
    for name in names {
        desk.up(name.as_str());
    }
    desk
}

impl Desk {
    fn feed(&mut self, input: Input) -> Vec<String> {
        let actions = self.machine.on_input(self.now, input, self.jitter);
        self.lines(actions)
    }

    /// Lets time pass and tells what falls due on the way.
    fn pass(&mut self, ms: u64) -> Vec<String> {
        let until = self.now + Duration::from_millis(ms);
        let mut lines = Vec::new();
        while let Some(at) = self.machine.deadline().filter(|at| *at <= until) {
            self.now = at;
            let actions = self.machine.on_deadline(self.now, self.jitter);
            lines.extend(self.lines(actions));
        }
        self.now = until;
        lines
    }

    fn generation(&self, child: &str) -> Generation {
        self.machine.child(&child.parse().unwrap()).unwrap().generation
    }

    fn started(&mut self, child: &str, outcome: StartOutcome) -> Vec<String> {
        let generation = self.generation(child);
        self.feed(Input::Started { child: child.parse().unwrap(), generation, outcome })
    }

    fn up(&mut self, child: &str) -> Vec<String> {
        self.started(child, StartOutcome::Up)
    }

    fn fails_to_start(&mut self, child: &str) -> Vec<String> {
        let error = StartError::NotFound { program: "x".into() };
        self.started(child, StartOutcome::Failed(error))
    }

    fn exits(&mut self, child: &str, exit: ChildExit) -> Vec<String> {
        let generation = self.generation(child);
        self.feed(Input::Exited { child: child.parse().unwrap(), generation, exit })
    }

    fn crashes(&mut self, child: &str) -> Vec<String> {
        self.exits(child, ChildExit::Exited { code: 1 })
    }

    fn stops(&mut self, child: &str) -> Vec<String> {
        self.exits(child, ChildExit::Stopped)
    }

    fn call(&mut self, request: Call) -> Vec<String> {
        self.feed(Input::Call { call: CallId(1), request })
    }

    fn set(&mut self, child: &str, set: CircuitSet) -> Vec<String> {
        self.call(Call::SetCircuit(child.parse().unwrap(), set))
    }

    fn phase(&self, child: &str) -> Phase {
        self.machine.child(&child.parse().unwrap()).unwrap().phase
    }

    /// Crashes it at once again and again until its circuit opens.
    fn quarantine(&mut self, child: &str) -> Vec<String> {
        for _ in 0..2 {
            self.crashes(child);
            self.pass(1000);
            self.up(child);
        }
        self.crashes(child)
    }

    fn lines(&mut self, actions: Vec<Action>) -> Vec<String> {
        actions.iter().map(|action| self.line(action)).collect()
    }

    fn line(&mut self, action: &Action) -> String {
        match action {
            Action::Start { child, generation, trial: Trial::Ordinary } => {
                format!("start {child} {generation}")
            }
            Action::Start { child, generation, trial: Trial::Trial } => {
                format!("try {child} {generation}")
            }
            Action::Stop { child, generation, .. } => format!("stop {child} {generation}"),
            Action::Reply { reply: Reply::Refused(refusal), .. } => format!("refused: {refusal}"),
            Action::Reply { reply, .. } => format!("{reply:?}").to_lowercase(),
            Action::Ready => "ready".to_owned(),
            Action::Ended { exit, scope: EndScope::Supervisor } => format!("ended: {exit}"),
            Action::Ended { exit, scope: EndScope::Tree } => format!("tree ended: {exit}"),
            Action::Note(note) => self.note(note),
        }
    }

    fn note(&mut self, note: &Note) -> String {
        let (text, record) = match note {
            Note::ChildTerminated { child, record, .. } => (format!("{child} terminated"), record),
            Note::ChildFinished { child, record, .. } => (format!("{child} finished"), record),
            Note::StartFailed { child, record, .. } => (format!("{child} start failed"), record),
            Note::Circuit { child, from, to, record } => {
                (format!("{child} circuit {from} {to}"), record)
            }
            Note::Recovered { child, attempts, since, record, .. } => {
                let after = (self.now - *since).as_millis();
                (format!("{child} recovered after {after} ms, {attempts} attempts"), record)
            }
            Note::GroupRestart { cause, members, record } => {
                let members: Vec<&str> = members.iter().map(ChildName::as_str).collect();
                (format!("{cause} restarts {}", members.join(" ")), record)
            }
            Note::GivingUp { child, record } => (format!("giving up for {child}"), record),
            Note::ShutdownError { child, exit, .. } => {
                return format!("{child} did not stop as asked: {exit}");
            }
        };
        self.records.push(record.clone());
        let word = |value| serde_json::to_value(value).unwrap().as_str().unwrap().to_owned();
        let action = serde_json::to_value(record.next.action).unwrap();
        let next = format!("{} in {}", action.as_str().unwrap(), record.next.in_ms);
        format!("{text} ({}; {next})", word(record.reason))
    }
}

#[track_caller]
fn check(seen: Vec<String>, expected: &[&str]) {
    assert_eq!(seen, expected);
}

#[test]
fn a_delay_grows_with_failures_in_a_row_and_is_reset_by_a_stable_run() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
    check(desk.pass(199), &[]);
    check(desk.pass(1), &["start a 2"]);
    check(desk.fails_to_start("a"), &["a start failed (start_failed; restart in 400)"]);
    check(desk.pass(400), &["start a 3"]);
    check(desk.up("a"), &[]);
    check(desk.pass(9_999), &[]);
    check(desk.pass(1), &["a recovered after 10600 ms, 2 attempts (stable_run; none in 0)"]);
    check(desk.pass(60_000), &[]);
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
}

#[test]
fn illness_interrupts_the_stable_time() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.crashes("a");
    desk.pass(200);
    desk.up("a");
    desk.pass(9_000);
    let (child, generation) = ("a".parse::<ChildName>().unwrap(), desk.generation("a"));
    desk.feed(Input::Health { child: child.clone(), generation, healthy: false });
    check(desk.pass(60_000), &[]);
    desk.feed(Input::Health { child, generation, healthy: true });
    check(desk.pass(9_999), &[]);
    check(desk.pass(1), &["a recovered after 79200 ms, 1 attempts (stable_run; none in 0)"]);
}

#[test]
fn jitter_is_drawn_from_the_fraction_and_told() {
    let mut spec = child("a");
    spec.policy.backoff.jitter = Jitter::Full;
    let mut desk = running(Strategy::OneForOne, vec![spec]);
    desk.jitter = 0.25;
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 50)"]);
    let inputs = &desk.records[0].inputs.0;
    assert_eq!(inputs["jitter"], Number::Number(0.25));
    assert_eq!(inputs["delay_ms"], Number::Count(50));
    assert_eq!(inputs["backoff_initial_ms"], Number::Count(200));
    assert_eq!(inputs["consecutive_failures"], Number::Count(0));
    assert_eq!(inputs["restarts_in_window"], Number::Count(1));
    assert_eq!(desk.records[0].rule.intensity, Some(2));
    assert_eq!(desk.records[0].rule.origin.as_deref(), Some("tree.toml:1"));
}

#[test]
fn over_its_limit_a_child_is_quarantined_and_its_siblings_go_on() {
    let mut desk = running(Strategy::OneForAll, vec![child("a"), child("b")]);
    for _ in 0..2 {
        desk.crashes("a");
        desk.stops("b");
        desk.pass(1000);
        desk.up("a");
        desk.up("b");
    }
    check(
        desk.crashes("a"),
        &[
            "a terminated (child_limit_exceeded; trial in 30000)",
            "a circuit closed open (child_limit_exceeded; trial in 30000)",
        ],
    );
    assert!(matches!(desk.phase("a"), Phase::Quarantined(Some(_))));
    assert_eq!(desk.phase("b"), Phase::Up(Trial::Ordinary));
    // Its group does not start it.
    check(desk.crashes("b"), &["b terminated (child_exited; restart_group in 200)"]);
    check(desk.pass(200), &["start b 4"]);
}

#[test]
fn a_trial_that_stays_healthy_closes_the_circuit_and_empties_the_account() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.quarantine("a");
    check(desk.pass(29_999), &[]);
    check(desk.pass(1), &["a circuit open half_open (open_time_over; trial in 0)", "try a 4"]);
    desk.up("a");
    assert_eq!(desk.phase("a"), Phase::Up(Trial::Trial));
    check(
        desk.pass(10_000),
        &[
            "a circuit half_open closed (trial_passed; none in 0)",
            "a recovered after 42000 ms, 3 attempts (trial_passed; none in 0)",
        ],
    );
    assert_eq!(desk.phase("a"), Phase::Up(Trial::Ordinary));
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
}

#[test]
fn a_failed_trial_opens_the_circuit_for_longer() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.jitter = 1.0;
    desk.quarantine("a");
    desk.pass(30_000);
    check(
        desk.fails_to_start("a"),
        &[
            "a start failed (trial_failed; trial in 54000)",
            "a circuit half_open open (trial_failed; trial in 54000)",
        ],
    );
    desk.pass(54_000);
    desk.up("a");
    check(
        desk.crashes("a"),
        &[
            "a terminated (trial_failed; trial in 90000)",
            "a circuit half_open open (trial_failed; trial in 90000)",
        ],
    );
}

#[test]
fn restart_siblings_is_tried_once_before_quarantine() {
    let mut spec = child("a");
    spec.policy = policy(OnExceeded::RestartSiblings);
    let mut desk = running(Strategy::OneForOne, vec![spec, child("b")]);
    check(
        desk.quarantine("a"),
        &[
            "a terminated (child_limit_exceeded; restart_group in 0)",
            "a restarts b (sibling_failed; restart_group in 0)",
            "stop b 1",
        ],
    );
    check(desk.stops("b"), &["start a 4"]);
    check(desk.up("a"), &["start b 2"]);
    desk.up("b");
    check(
        desk.crashes("a"),
        &[
            "a terminated (child_limit_exceeded; trial in 30000)",
            "a circuit closed open (child_limit_exceeded; trial in 30000)",
        ],
    );
}

#[test]
fn escalation_ends_the_supervisor_and_stop_tree_the_tree() {
    for (rule, reason, ended) in [
        (OnExceeded::Escalate, "escalate", "ended"),
        (OnExceeded::StopTree, "stop_tree", "tree ended"),
    ] {
        let mut spec = child("b");
        spec.policy = policy(rule);
        let mut desk = running(Strategy::OneForOne, vec![child("a"), spec]);
        check(
            desk.quarantine("b"),
            &[
                &format!("b terminated (child_limit_exceeded; {reason} in 0)"),
                &format!("giving up for b (escalated; {reason} in 0)"),
                "stop a 1",
            ],
        );
        let gave_up = "gave up: 3 restarts within 60000 ms, 2 are allowed";
        check(desk.stops("a"), &[&format!("{ended}: {gave_up}")]);
        check(desk.call(Call::Pause), &["refused: supervisor is shutting down"]);
    }
}

#[test]
fn a_failed_first_start_is_handled_by_the_child_s_own_policy() {
    let mut desk = desk(Strategy::OneForOne, vec![child("a"), child("b")]);
    check(desk.feed(Input::Init), &["start a 1"]);
    check(
        desk.fails_to_start("a"),
        &["a start failed (start_failed; restart in 200)", "start b 1"],
    );
    check(desk.up("b"), &["ready"]);
    check(desk.pass(200), &["start a 2"]);
}

#[test]
fn without_a_circuit_a_failed_first_start_ends_the_supervisor() {
    let plain = ChildSpec::otp_worker("b".parse().unwrap());
    let mut desk = desk(Strategy::OneForOne, vec![child("a"), plain]);
    desk.feed(Input::Init);
    desk.up("a");
    check(desk.fails_to_start("b"), &["b start failed (start_failed; escalate in 0)", "stop a 1"]);
    let seen = desk.stops("a");
    assert!(seen[0].starts_with("ended: failed: child b failed to start"), "{seen:?}");
}

#[test]
fn a_refused_start_is_tried_again_uncounted() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.crashes("a");
    for _ in 0..20 {
        desk.pass(1000);
        let refused = StartError::Refused { message: "the keeper is away".into() };
        let seen = desk.started("a", StartOutcome::Failed(refused));
        check(seen, &["a start failed (start_failed; restart in 400)"]);
    }
}

#[test]
fn a_group_is_stopped_at_once_and_started_when_the_delay_is_over() {
    let mut desk = running(Strategy::RestForOne, vec![child("a"), child("b"), child("c")]);
    check(
        desk.crashes("b"),
        &[
            "b terminated (child_exited; restart_group in 200)",
            "b restarts c (sibling_failed; restart_group in 200)",
            "stop c 1",
        ],
    );
    check(desk.stops("c"), &[]);
    assert!(matches!(desk.phase("c"), Phase::Waiting(_)));
    // A member that fails meanwhile joins: the larger group, the later time.
    check(desk.crashes("a"), &["a terminated (child_exited; restart_group in 200)"]);
    check(desk.pass(200), &["start a 2"]);
    check(desk.up("a"), &["start b 2"]);
    check(desk.up("b"), &["start c 2"]);
    check(desk.up("c"), &[]);
    assert_eq!(desk.machine.deadline(), Some(desk.now + Duration::from_secs(10)));
}

#[test]
fn members_that_wait_for_a_child_are_started_without_it_when_it_is_taken_down() {
    let mut desk = running(Strategy::OneForAll, vec![child("a"), child("b")]);
    desk.crashes("a");
    desk.stops("b");
    check(desk.call(Call::TerminateChild("a".parse().unwrap())), &["ok"]);
    check(desk.pass(200), &["start b 2"]);
    check(desk.up("b"), &[]);
    assert_eq!(desk.phase("a"), Phase::Stopped);
}

#[test]
fn members_are_not_forgotten_when_the_child_is_taken_down_before_its_retry() {
    let at_once = |name| {
        let mut spec = child(name);
        spec.policy.backoff.initial = Duration::ZERO;
        spec
    };
    let mut desk = running(Strategy::RestForOne, vec![at_once("a"), at_once("b"), at_once("c")]);
    desk.crashes("b");
    check(desk.stops("c"), &["start b 2"]);
    check(desk.call(Call::TerminateChild("b".parse().unwrap())), &[]);
    check(
        desk.fails_to_start("b"),
        &["b start failed (start_failed; restart_group in 0)", "ok", "start c 2"],
    );
}

#[test]
fn a_group_restart_brings_back_neither_the_stopped_nor_the_finished() {
    let mut finished = child("b");
    finished.restart = RestartType::Transient;
    let mut desk = running(Strategy::OneForAll, vec![child("a"), finished, child("c")]);
    check(desk.exits("b", ChildExit::Exited { code: 0 }), &["b finished (clean_exit; none in 0)"]);
    desk.call(Call::TerminateChild("c".parse().unwrap()));
    check(desk.stops("c"), &["ok"]);
    desk.crashes("a");
    check(desk.pass(200), &["start a 2"]);
    check(desk.up("a"), &[]);
}

#[test]
fn a_throttled_child_is_parked_until_its_time_and_nothing_is_counted() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    for n in 2..10 {
        check(
            desk.exits("a", ChildExit::Throttled { after_ms: 7_000 }),
            &["a terminated (throttled; restart in 7000)"],
        );
        check(desk.pass(6_999), &[]);
        check(desk.pass(1), &[&format!("start a {n}")]);
        desk.up("a");
    }
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
}

#[test]
fn a_throttled_trial_is_tried_again() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.quarantine("a");
    desk.pass(30_000);
    desk.up("a");
    desk.exits("a", ChildExit::Throttled { after_ms: 5_000 });
    check(desk.pass(5_000), &["try a 5"]);
}

#[test]
fn a_circuit_held_open_keeps_the_child_down_until_it_is_set_to_auto() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    check(
        desk.set("a", CircuitSet::Open),
        &["a circuit closed forced_open (requested; none in 0)", "stop a 1"],
    );
    check(desk.stops("a"), &["ok"]);
    assert_eq!(desk.phase("a"), Phase::Quarantined(None));
    check(desk.pass(1_000_000), &[]);
    check(
        desk.set("a", CircuitSet::Auto),
        &["a circuit forced_open closed (requested; none in 0)", "start a 2"],
    );
    check(desk.up("a"), &["ok"]);
}

#[test]
fn a_circuit_held_closed_applies_no_limit() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.set("a", CircuitSet::Closed);
    for delay in [200, 400, 800, 1000, 1000] {
        check(desk.crashes("a"), &[&format!("a terminated (child_exited; restart in {delay})")]);
        desk.pass(delay);
        desk.up("a");
    }
}

#[test]
fn reset_starts_a_quarantined_child_with_an_empty_account() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.quarantine("a");
    check(
        desk.call(Call::ResetChild("a".parse().unwrap())),
        &["a circuit open closed (requested; none in 0)", "start a 4"],
    );
    check(desk.up("a"), &["ok"]);
    assert_eq!(desk.machine.child(&"a".parse().unwrap()).unwrap().restarts, 1);
    check(desk.crashes("a"), &["a terminated (child_exited; restart in 200)"]);
}

#[test]
fn restart_of_a_quarantined_child_is_its_trial() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.quarantine("a");
    check(
        desk.call(Call::RestartChild("a".parse().unwrap())),
        &["a circuit open half_open (requested; trial in 0)", "try a 4"],
    );
    let seen = desk.fails_to_start("a");
    assert!(seen[0].starts_with("refused: start failed"), "{seen:?}");
    assert!(seen[2].starts_with("a circuit half_open open (trial_failed"), "{seen:?}");
}

#[test]
fn a_bounce_is_not_counted_and_a_restart_during_backoff_starts_at_once() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    for n in 2..8 {
        check(desk.call(Call::BounceChild("a".parse().unwrap())), &[&format!("stop a {}", n - 1)]);
        check(desk.stops("a"), &[&format!("start a {n}")]);
        check(desk.up("a"), &["ok"]);
    }
    desk.crashes("a");
    check(desk.call(Call::RestartChild("a".parse().unwrap())), &["start a 8"]);
    check(desk.up("a"), &["ok"]);
    check(desk.pass(5_000), &[]);
}

#[test]
fn a_pause_holds_restarts_and_trials_until_it_is_taken_back() {
    let mut desk = running(Strategy::OneForOne, vec![child("a"), child("b")]);
    desk.quarantine("b");
    desk.crashes("a");
    check(desk.call(Call::Pause), &["ok"]);
    check(desk.pass(100_000), &[]);
    assert_eq!(desk.machine.deadline(), None);
    check(
        desk.call(Call::Resume),
        &["ok", "start a 2", "b circuit open half_open (open_time_over; trial in 0)", "try b 4"],
    );
}

#[test]
fn calls_about_a_busy_child_wait_and_others_do_not() {
    let mut desk = running(Strategy::OneForOne, vec![child("a"), child("b")]);
    check(desk.call(Call::TerminateChild("a".parse().unwrap())), &["stop a 1"]);
    check(desk.call(Call::RestartChild("a".parse().unwrap())), &[]);
    check(desk.call(Call::TerminateChild("b".parse().unwrap())), &["stop b 1"]);
    check(desk.stops("a"), &["ok", "start a 2"]);
    check(desk.up("a"), &["ok"]);
}

#[test]
fn shutdown_wins_over_a_start_and_over_a_group_restart() {
    let mut desk = desk(Strategy::OneForAll, vec![child("a"), child("b"), child("c")]);
    desk.feed(Input::Init);
    desk.up("a");
    check(desk.feed(Input::Shutdown), &["stop b 1"]);
    check(desk.stops("b"), &["stop a 1"]);
    check(desk.stops("a"), &["ended: stopped on request"]);

    let mut desk = running(Strategy::OneForAll, vec![child("a"), child("b"), child("c")]);
    desk.crashes("a");
    check(desk.feed(Input::Shutdown), &[]);
    check(desk.stops("c"), &["stop b 1"]);
    check(desk.stops("b"), &["ended: stopped on request"]);
}

#[test]
fn reports_of_other_runs_are_stale() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.crashes("a");
    desk.pass(200);
    desk.up("a");
    let old = |exit| Input::Exited { child: "a".parse().unwrap(), generation: Generation(1), exit };
    check(desk.feed(old(ChildExit::Killed)), &[]);
    let child = "a".parse().unwrap();
    let late = Input::Started { child, generation: Generation(1), outcome: StartOutcome::Ignored };
    check(desk.feed(late), &[]);
    assert_eq!(desk.phase("a"), Phase::Up(Trial::Ordinary));
}

#[test]
fn generations_go_on_after_deletion_and_in_the_next_life() {
    let mut desk = running(Strategy::OneForOne, vec![child("a")]);
    desk.call(Call::TerminateChild("a".parse().unwrap()));
    desk.stops("a");
    desk.call(Call::DeleteChild("a".parse().unwrap()));
    check(desk.call(Call::StartChild(child("a"))), &["start a 2"]);
    let generations: Generations = desk.machine.generations().clone();
    let next = Supervisor::new(desk.machine.spec().clone(), vec![child("a")]).unwrap();
    let mut next = next.with_generations(generations).with_pace(Pace::OneAtATime);
    let seen = next.on_input(desk.now, Input::Init, 0.0);
    check(desk.lines(seen), &["start a 3"]);
}
