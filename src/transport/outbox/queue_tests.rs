//! The drop policy as a table, and its invariants as properties.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn id(number: u64) -> EventId {
    EventId::new(uuid::Uuid::from_u128(u128::from(number)))
}

fn draft(number: u64, class: Class) -> Draft {
    sized(number, class, 10)
}

fn sized(number: u64, class: Class, bytes: usize) -> Draft {
    let subject = match class {
        Class::Health => "h",
        Class::Other => "o",
    };
    Draft {
        id: id(number),
        subject: subject.to_owned(),
        class,
        payload: vec![b'x'; bytes].into(),
        traceparent: None,
    }
}

fn empty(events: u64) -> Queue {
    Queue::new(Bounds { events, bytes: 1 << 20 }, Recovered::default(), now()).0
}

/// Publishes everything: `h3`, `o4` for events and `gap(dropped,health)` for notices.
fn drain(queue: &mut Queue) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(turn) = queue.turn(Gate::Open, || id(1_000_000)) {
        seen.push(match &turn.what {
            What::Event(event) => format!("{}{}", event.draft.subject, event.seq),
            What::Gap(notice) => {
                format!("gap({},{})", notice.hole.dropped, notice.hole.dropped_health)
            }
        });
        queue.acknowledge(turn.seq);
    }
    seen
}

fn check(bound: u64, pushed: &str, expected: &[&str]) {
    let mut queue = empty(bound);
    for (number, letter) in (1..).zip(pushed.chars()) {
        let class = if letter == 'h' { Class::Health } else { Class::Other };
        queue.push(draft(number, class), now());
    }
    assert_eq!(drain(&mut queue), expected, "{pushed} into {bound}");
    assert_eq!((queue.waiting(), queue.bytes()), (0, 0));
}

#[test]
fn what_is_dropped_is_the_oldest_health_event_else_the_oldest() {
    check(3, "oho", &["o1", "h2", "o3"]);
    check(3, "ohoo", &["o1", "gap(1,1)", "o3", "o4"]);
    check(3, "hhoho", &["gap(2,2)", "o3", "h4", "o5"]);
    check(3, "ooooo", &["gap(2,0)", "o3", "o4", "o5"]);
    check(3, "ooohh", &["o1", "o2", "o3", "gap(2,2)"]);
    check(3, "hhhoooo", &["gap(4,3)", "o5", "o6", "o7"]);
    check(1, "hho", &["gap(2,2)", "o3"]);
}

#[test]
fn an_event_larger_than_the_whole_bound_costs_no_other() {
    let mut queue = Queue::new(Bounds { events: 9, bytes: 1_000 }, Recovered::default(), now()).0;
    queue.push(draft(1, Class::Other), now());
    assert_eq!(queue.push(sized(2, Class::Other, 1_000), now()).other, 1);
    queue.push(draft(3, Class::Other), now());
    assert_eq!(drain(&mut queue), ["o1", "gap(1,0)", "o3"]);
}

#[test]
fn the_bound_in_bytes_holds_as_the_bound_in_events_does() {
    let mut queue = Queue::new(Bounds { events: 100, bytes: 1_000 }, Recovered::default(), now()).0;
    for number in 1..=10 {
        queue.push(sized(number, Class::Other, 171), now());
    }
    assert_eq!(drain(&mut queue), ["gap(7,0)", "o8", "o9", "o10"]);
}

#[test]
fn the_turn_is_not_dropped_because_the_server_may_have_it() {
    let mut queue = empty(2);
    queue.push(draft(1, Class::Health), now());
    let turn = queue.turn(Gate::Open, || id(99)).unwrap();
    assert_eq!(turn.seq, 1);
    for number in 2..=5 {
        queue.push(draft(number, Class::Other), now());
    }
    assert_eq!(drain(&mut queue), ["h1", "gap(3,0)", "o5"]);
}

#[test]
fn drops_during_a_notice_are_told_by_the_next_one() {
    let mut queue = empty(2);
    for number in 1..=3 {
        queue.push(draft(number, Class::Other), now());
    }
    let turn = queue.turn(Gate::Open, || id(99)).unwrap();
    assert!(matches!(turn.what, What::Gap(notice) if notice.hole.dropped == 1));
    queue.push(draft(4, Class::Other), now());
    assert_eq!(drain(&mut queue), ["gap(1,0)", "gap(1,0)", "o3", "o4"]);
}

#[test]
fn a_refused_turn_is_told_where_it_would_have_stood() {
    let mut queue = empty(9);
    for number in 1..=3 {
        queue.push(draft(number, Class::Other), now());
    }
    let turn = queue.turn(Gate::Open, || id(99)).unwrap();
    assert_eq!(queue.refuse(turn.seq, now()), Dropped { health: 0, other: 1 });
    assert_eq!(drain(&mut queue), ["gap(1,0)", "o2", "o3"]);
}

#[test]
fn nothing_is_published_before_it_is_spooled() {
    let mut queue = empty(2);
    queue.push(draft(1, Class::Other), now());
    assert!(queue.turn(Gate::SpooledOnly, || id(99)).is_none());
    queue.set_spooled(1, 0);
    assert_eq!(queue.turn(Gate::SpooledOnly, || id(99)).unwrap().seq, 1);
    queue.acknowledge(1);
    for number in 2..=4 {
        queue.push(draft(number, Class::Other), now());
    }
    queue.set_spooled(4, 0);
    assert!(queue.turn(Gate::SpooledOnly, || id(99)).is_none(), "the notice is not spooled");
    let (marks, version) = queue.marks();
    assert_eq!(marks.notice.unwrap().id, id(99));
    queue.set_spooled(4, version);
    let turn = queue.turn(Gate::SpooledOnly, || id(98)).unwrap();
    assert!(matches!(turn.what, What::Gap(notice) if notice.id == id(99)));
}

fn recovered(numbers: &[u64], marks: Marks) -> Recovered {
    let events =
        numbers.iter().map(|&seq| Event { seq, draft: draft(seq, Class::Other) }).collect();
    Recovered { events, marks, lost: None }
}

#[test]
fn a_later_event_found_stored_proves_the_earlier_ones() {
    let recovered = recovered(&[5, 6, 7], Marks { cursor: 4, ..Marks::default() });
    let mut queue = Queue::new(Bounds { events: 9, bytes: 1 << 20 }, recovered, now()).0;
    let turn = queue.turn(Gate::Open, || id(99)).unwrap();
    assert!(turn.in_doubt);
    assert!(queue.is_stored(&turn, Some(id(6))));
    queue.acknowledge(5);
    // 6 is known without another question, and 7 is known not to be stored.
    let turn = queue.turn(Gate::Open, || id(99)).unwrap();
    assert_eq!((turn.seq, turn.in_doubt), (7, false));
    assert_eq!(queue.acknowledged(), 2);
}

#[test]
fn a_stranger_as_last_event_proves_nothing() {
    let recovered = recovered(&[5], Marks::default());
    let mut queue = Queue::new(Bounds { events: 9, bytes: 1 << 20 }, recovered, now()).0;
    let turn = queue.turn(Gate::Open, || id(99)).unwrap();
    assert!(!queue.is_stored(&turn, Some(id(4))));
    assert!(!queue.is_stored(&turn, None));
}

#[test]
fn events_lost_in_the_spool_are_told_in_their_place() {
    let mut recovered = recovered(&[1, 4], Marks::default());
    recovered.lost = Some((2, 2));
    let mut queue = Queue::new(Bounds { events: 9, bytes: 1 << 20 }, recovered, now()).0;
    assert_eq!(drain(&mut queue), ["o1", "gap(2,0)", "o4"]);
}

#[test]
fn a_smaller_bound_than_before_drops_at_the_start() {
    let recovered = recovered(&[1, 2, 3, 4], Marks { turn: 1, ..Marks::default() });
    let mut queue = Queue::new(Bounds { events: 2, bytes: 1 << 20 }, recovered, now()).0;
    assert_eq!(drain(&mut queue), ["o1", "gap(2,0)", "o4"]);
}

#[test]
fn settled_means_settled_and_told() {
    let mut queue = empty(2);
    assert!(queue.is_settled(queue.last_seq()));
    for number in 1..=3 {
        queue.push(draft(number, Class::Other), now());
    }
    assert!(!queue.is_settled(1), "the hole is not told yet");
    drain(&mut queue);
    assert!(queue.is_settled(3));
}

#[derive(Clone, Debug)]
enum Step {
    Push(Class, usize),
    Begin,
    Acknowledge,
    Refuse,
    Spool,
    /// A new life that begins from what was spooled.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let class = prop_oneof![Just(Class::Health), Just(Class::Other)];
    prop_oneof![
        6 => (class, 0_usize..400).prop_map(|(class, bytes)| Step::Push(class, bytes)),
        2 => Just(Step::Begin),
        3 => Just(Step::Acknowledge),
        1 => Just(Step::Refuse),
        3 => Just(Step::Spool),
        1 => Just(Step::Crash),
    ]
}

/// A queue with the file that it would have, and the stream that it would fill.
#[derive(Debug)]
struct World {
    queue: Queue,
    file: Vec<Event>,
    marks: Marks,
    stream: Vec<u64>,
    told: u64,
    told_ids: BTreeSet<EventId>,
    pushed: u64,
    gaps: u64,
}

impl World {
    const BOUNDS: Bounds = Bounds { events: 6, bytes: 1_500 };

    fn new() -> Self {
        Self {
            queue: Queue::new(Self::BOUNDS, Recovered::default(), now()).0,
            file: Vec::new(),
            marks: Marks::default(),
            stream: Vec::new(),
            told: 0,
            told_ids: BTreeSet::new(),
            pushed: 0,
            gaps: 0,
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Push(class, bytes) => {
                self.pushed += 1;
                let other_before = self.queue.other.len();
                let health_before = self.queue.health.len();
                let dropped = self.queue.push(sized(self.pushed, class, bytes), now());
                assert!(
                    dropped.other == 0 || self.queue.health.is_empty() || class == Class::Other,
                    "an event went while health was there: {dropped:?}"
                );
                assert!(
                    u64::try_from(other_before + health_before).unwrap() + 1
                        >= dropped.health + dropped.other
                );
            }
            Step::Begin => drop(self.begin()),
            Step::Acknowledge => {
                if let Some(turn) = self.begin() {
                    self.store(&turn);
                    self.queue.acknowledge(turn.seq);
                }
            }
            Step::Refuse => {
                if let Some(turn) = self.begin().filter(|turn| !turn.in_doubt) {
                    self.queue.refuse(turn.seq, now());
                }
            }
            Step::Spool => self.spool(),
            Step::Crash => self.crash(),
        }
        assert!(self.queue.waiting() <= Self::BOUNDS.events);
        assert!(self.queue.bytes() <= Self::BOUNDS.bytes);
    }

    fn begin(&mut self) -> Option<Turn> {
        self.gaps += 1;
        let gap = self.gaps;
        self.queue.turn(Gate::SpooledOnly, || id(1_000_000 + gap))
    }

    /// The turn once the writer has done its part.
    fn begin_spooled(&mut self) -> Option<Turn> {
        self.begin().or_else(|| {
            self.spool();
            self.begin()
        })
    }

    fn store(&mut self, turn: &Turn) {
        match &turn.what {
            What::Event(event) => self.stream.push(event.seq),
            What::Gap(notice) => {
                if self.told_ids.insert(notice.id) {
                    self.told += notice.hole.dropped;
                }
            }
        }
    }

    fn spool(&mut self) {
        let events = self.queue.unspooled(100);
        let to = events.last().map_or(0, |event| event.seq);
        self.file.extend(events.iter().map(|event| (**event).clone()));
        let (marks, version) = self.queue.marks();
        self.marks = marks;
        self.queue.set_spooled(to, version);
    }

    /// Everything is spooled first, so that nothing may be lost.
    fn crash(&mut self) {
        self.spool();
        let recovered = Recovered { events: self.file.clone(), marks: self.marks, lost: None };
        let (queue, dropped) = Queue::new(Self::BOUNDS, recovered, now());
        assert_eq!(dropped, Dropped::default());
        assert_eq!((queue.waiting(), queue.bytes()), (self.queue.waiting(), self.queue.bytes()));
        self.queue = queue;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_published_once_in_order_or_told_once(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
        }
        while let Some(turn) = world.begin_spooled() {
            world.store(&turn);
            world.queue.acknowledge(turn.seq);
        }
        prop_assert_eq!(world.queue.waiting(), 0);
        prop_assert!(world.stream.is_sorted_by(|left, right| left < right), "{:?}", world.stream);
        let published = u64::try_from(world.stream.len()).unwrap();
        prop_assert_eq!(published + world.told, world.pushed);
    }
}
