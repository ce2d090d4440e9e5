//! Precision, recall and delay at the defaults, and the page that tells them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use provost::protocol::insight::{PatternKind, PatternState};

use crate::detect::fleet::{DAILY, Fault, Fleet, Found};
use crate::tidy::root;

/// Traces with one fault each.
const TRACES: u64 = 20;

/// Agents of a trace.
const AGENTS: usize = 40;

/// Noise before a fault; the peers are known then.
const BEFORE: Duration = Duration::from_secs(3_000);

/// Time after a fault in which it must be found.
const AFTER: Duration = Duration::from_secs(2_400);

/// What came out for one kind of pattern.
#[derive(Clone, Debug, Default)]
struct Score {
    injected: u32,
    found: u32,
    false_ones: u32,
    delays: Vec<f64>,
}

impl Score {
    fn precision(&self) -> f64 {
        let all = self.found + self.false_ones;
        if all == 0 { 1.0 } else { f64::from(self.found) / f64::from(all) }
    }

    fn recall(&self) -> f64 {
        if self.injected == 0 { 1.0 } else { f64::from(self.found) / f64::from(self.injected) }
    }

    fn delay(&self, share: f64) -> f64 {
        let mut delays = self.delays.clone();
        delays.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let at = (share * delays.len().saturating_sub(1) as f64).round() as usize;
        delays.get(at).copied().unwrap_or_default()
    }
}

fn judge(fault: &Fault, found: &[Found], scores: &mut BTreeMap<PatternKind, Score>) {
    scores.entry(fault.kind).or_default().injected += 1;
    let mut is_found = false;
    for one in found {
        let seen = &one.finding.seen;
        // A part of something larger is told as that, and makes no alert.
        if seen.state != PatternState::Began || seen.part_of.is_some() {
            continue;
        }
        let score = scores.entry(seen.kind).or_default();
        if seen.kind == fault.kind && seen.scope == fault.scope && fault.at <= one.at {
            if !is_found {
                is_found = true;
                score.found += 1;
                score.delays.push((one.at - fault.at).as_secs_f64());
            }
        } else {
            score.false_ones += 1;
        }
    }
}

fn measure() -> (BTreeMap<PatternKind, Score>, u64) {
    let mut scores = BTreeMap::new();
    let mut events = 0;
    for kind in PatternKind::ALL {
        for seed in 0..TRACES {
            let mut fleet = Fleet::new(seed * 7 + 1, AGENTS, DAILY);
            let at = fleet.start + BEFORE + fleet.random.secs(0.0, 600.0);
            fleet.run(at);
            let fault = fleet.inject(kind, at);
            fleet.run(at + AFTER);
            judge(&fault, &fleet.found, &mut scores);
            events += fleet.events;
        }
    }
    (scores, events)
}

/// What was told in a day of noise and nothing else.
fn quiet_day(seed: u64) -> (Vec<String>, u64) {
    let mut fleet = Fleet::new(seed, AGENTS, DAILY);
    fleet.run(fleet.start + Duration::from_secs(24 * 3_600));
    let told = fleet.found.iter().map(|one| format!("{:?}", one.finding.seen)).collect();
    (told, fleet.events)
}

fn page(scores: &BTreeMap<PatternKind, Score>, traces: u64, (days, quiet): (u64, u64)) -> String {
    let mut text = String::from(HEAD);
    for (kind, score) in scores {
        let kind = kind.as_str();
        writeln!(
            text,
            "| {kind} | {} | {:.3} | {:.3} | {:.1} | {:.1} |",
            score.injected,
            score.precision(),
            score.recall(),
            score.delay(0.5),
            score.delay(0.95)
        )
        .unwrap();
    }
    let all = all_of(scores);
    writeln!(
        text,
        "| **all** | {} | **{:.3}** | **{:.3}** | | |",
        all.injected,
        all.precision(),
        all.recall()
    )
    .unwrap();
    writeln!(
        text,
        "\n{} traces of {AGENTS} agents, {traces} events. Quiet: {days} days of {AGENTS} agents \
         with the same noise and no fault, {quiet} events, 0 patterns.",
        all.injected
    )
    .unwrap();
    text.push_str(TAIL);
    text
}

fn all_of(scores: &BTreeMap<PatternKind, Score>) -> Score {
    scores.values().fold(Score::default(), |mut all, one| {
        all.injected += one.injected;
        all.found += one.found;
        all.false_ones += one.false_ones;
        all
    })
}

const HEAD: &str = include_str!("page_head.md");
const TAIL: &str = include_str!("page_tail.md");

#[test]
fn the_detectors_find_what_was_put_in_and_little_else() {
    let (scores, events) = measure();
    let quiet: Vec<(Vec<String>, u64)> = (100..102).map(quiet_day).collect();
    for (told, _) in &quiet {
        assert_eq!(*told, Vec::<String>::new(), "a quiet day");
    }
    let quiet_events = quiet.iter().map(|(_, events)| events).sum();
    let page = page(&scores, events, (2, quiet_events));
    for (kind, score) in &scores {
        assert!(0.95 <= score.precision(), "{kind:?}: precision {}", score.precision());
        assert!(0.9 <= score.recall(), "{kind:?}: recall {}", score.recall());
    }
    let path = root().join("docs/detectors.md");
    if std::env::var_os("PROVOST_BLESS").is_some() {
        std::fs::create_dir_all(root().join("docs")).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let told = std::fs::read_to_string(&path).unwrap_or_default();
    let stale = "docs/detectors.md is stale; run PROVOST_BLESS=1 cargo test detect";
    assert!(words(&told) == words(&page), "{stale}");
}

/// A page without its figures: the last digits may differ with the machine's mathematics.
fn words(page: &str) -> String {
    page.chars().filter(|char| !char.is_ascii_digit()).collect()
}
