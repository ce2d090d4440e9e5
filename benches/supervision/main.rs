//! What supervision costs: from a crash to its replacement, bursts, groups, starts, memory.
//!
//! Not for criterion: percentiles of single events and memory of fresh processes are wanted. Each
//! figure is taken in a process of its own, so that one cannot colour the next. The figures of one
//! line of text belong to one run; compare those, not runs of different days.
//!
//! `ours` is the tree of `provost::actors`; `minimal` a hand-written ractor supervisor that only
//! respawns; `floor` a bare tokio task that respawns tasks.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement reads clocks, prints figures, and has nobody to hand errors to"
)]

mod floor;
mod minimal;
mod ours;
mod probe;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use provost::protocol::spec::Strategy;

use crate::probe::{Probe, resident, summary};

/// Restarted at one time: nobody, or one that is told what to do.
pub(crate) trait System {
    /// Makes a child crash.
    fn crash(&self, child: usize);
    /// Stops everything.
    fn stop(self) -> impl Future<Output = ()>;
}

const SYSTEMS: [&str; 3] = ["ours", "minimal", "floor"];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {
            for what in ["latency", "quick", "burst", "groups", "starts", "memory"] {
                all(what);
            }
        }
        [what] => all(what),
        [what, system, count] => one(what, system, count.parse().unwrap(), 2),
        [what, system, count, threads] => {
            one(what, system, count.parse().unwrap(), threads.parse().unwrap());
        }
        _ => println!("give nothing, or one of latency quick burst groups starts memory million"),
    }
}

/// Every figure of one kind, each in a fresh process.
fn all(what: &str) {
    let (systems, counts): (&[&str], &[usize]) = match what {
        "latency" => (&SYSTEMS, &[1, 1_000, 100_000]),
        "quick" => (&SYSTEMS, &[1, 1_000, 100_000]),
        "burst" => (&SYSTEMS, &[1_000, 10_000]),
        "groups" => (&["one_for_all", "rest_for_one"], &[10, 1_000]),
        "starts" => (&["ours", "added", "minimal", "floor"], &[1_000, 10_000, 100_000]),
        "memory" => (&["ours", "agents", "minimal", "ractor", "floor"], &[10_000, 100_000]),
        "million" => (&["ours"], &[1_000_000]),
        _ => return println!("unknown measurement: {what}"),
    };
    // One thread is what the daemon gives its tree; two are what a program may have.
    let threads: &[&str] = match what {
        "quick" | "burst" | "groups" => &["1", "2"],
        _ => &["2"],
    };
    for count in counts {
        for threads in threads {
            for system in systems {
                let myself = std::env::current_exe().unwrap();
                let words = [what, system, &count.to_string(), threads];
                Command::new(myself).args(words).status().unwrap();
            }
        }
    }
}

fn one(what: &str, system: &str, count: usize, threads: usize) {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if 1 < threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().unwrap();
    print!("{threads} thr  ");
    std::panic::set_hook(Box::new(|_| {}));
    runtime.block_on(async {
        // On a worker thread, so that a wake-up from outside is not measured.
        tokio::spawn(measure(what.to_owned(), system.to_owned(), count)).await.unwrap();
    });
}

async fn measure(what: String, system: String, count: usize) {
    match (what.as_str(), system.as_str()) {
        ("latency", "ours") => latency("ours", count, Duration::from_millis(2), ours::start).await,
        ("latency", "minimal") => {
            latency("minimal", count, Duration::from_millis(2), minimal::start).await;
        }
        ("latency", _) => latency("floor", count, Duration::from_millis(2), floor::start).await,
        ("quick", "ours") => latency("ours", count, Duration::ZERO, ours::start).await,
        ("quick", "minimal") => latency("minimal", count, Duration::ZERO, minimal::start).await,
        ("quick", _) => latency("floor", count, Duration::ZERO, floor::start).await,
        ("burst", "ours") => burst("ours", count, ours::start).await,
        ("burst", "minimal") => burst("minimal", count, minimal::start).await,
        ("burst", _) => burst("floor", count, floor::start).await,
        ("groups", "one_for_all") => groups(Strategy::OneForAll, count).await,
        ("groups", _) => groups(Strategy::RestForOne, count).await,
        ("starts", "ours") => starts("ours", count, ours::start).await,
        ("starts", "added") => starts("added", count, ours::added).await,
        ("starts", "minimal") => starts("minimal", count, minimal::start).await,
        ("starts", _) => starts("floor", count, floor::start).await,
        ("million", _) => starts("ours", count, ours::start).await,
        ("memory", "ours") => memory("ours", count, ours::start).await,
        ("memory", "agents") => memory("agents", count, ours::agents).await,
        ("memory", "minimal") => memory("minimal", count, minimal::start).await,
        ("memory", "ractor") => memory("ractor", count, minimal::bare).await,
        ("memory", _) => memory("floor", count, floor::start).await,
        (what, _) => println!("unknown measurement: {what}"),
    }
}

/// One crash at a time; from the instant before a child ends to its replacement's first step.
async fn latency<S: System>(
    name: &str,
    count: usize,
    gap: Duration,
    start: impl AsyncFn(usize, &Arc<Probe>) -> S,
) {
    let probe = Arc::new(Probe::new());
    let system = start(count, &probe).await;
    let rounds = if gap.is_zero() { 20_000 } else { 2_000 };
    let mut taken = Vec::with_capacity(rounds);
    for round in 0..rounds + rounds / 10 {
        let all_up = probe.expect(1);
        system.crash(fastrand::usize(..count));
        all_up.await;
        if rounds / 10 <= round {
            taken.push(probe.since_crash());
        }
        // What follows a restart shall be over before the next.
        if gap.is_zero() { tokio::task::yield_now().await } else { tokio::time::sleep(gap).await }
    }
    let apart = gap.as_millis();
    println!("latency {name:<8} siblings={count:<7} {apart} ms apart: {}", summary(&mut taken));
    system.stop().await;
}

/// All children crash at once; until the last replacement runs.
async fn burst<S: System>(name: &str, count: usize, start: impl AsyncFn(usize, &Arc<Probe>) -> S) {
    let probe = Arc::new(Probe::new());
    let system = start(count, &probe).await;
    let mut taken = Vec::new();
    for _ in 0..7 {
        let all_up = probe.expect(count as u64);
        let begin = probe.now();
        for child in 0..count {
            system.crash(child);
        }
        all_up.await;
        taken.push(probe.last_up().saturating_sub(begin));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("burst   {name:<8} {count} at once, until all are back: {}", summary(&mut taken));
    system.stop().await;
}

/// One member of a group crashes; until the last member runs again.
async fn groups(strategy: Strategy, count: usize) {
    let probe = Arc::new(Probe::new());
    let system = ours::start_with(strategy, count, &probe).await;
    let mut taken = Vec::new();
    for _ in 0..100 {
        let child = fastrand::usize(..count);
        let members = if strategy == Strategy::OneForAll { count } else { count - child };
        let all_up = probe.expect(members as u64);
        system.crash(child);
        all_up.await;
        taken.push(probe.since_crash());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("group   {strategy:?} of {count}: {}", summary(&mut taken));
    system.stop().await;
}

async fn starts<S: System>(name: &str, count: usize, start: impl AsyncFn(usize, &Arc<Probe>) -> S) {
    let probe = Arc::new(Probe::new());
    let begin = probe.now();
    let all_up = probe.expect(count as u64);
    let system = start(count, &probe).await;
    all_up.await;
    let up = probe.now().saturating_sub(begin);
    let begin = probe.now();
    system.stop().await;
    let down = probe.now().saturating_sub(begin);
    let rate = |took: Duration| count as f64 / took.as_secs_f64();
    println!(
        "starts  {name:<8} {count}: {:.0}/s ({up:.1?}), stops {:.0}/s ({down:.1?}), peak {} MiB",
        rate(up),
        rate(down),
        probe::peak() >> 20,
    );
}

/// Resident memory per idle child.
async fn memory<S: System>(name: &str, count: usize, start: impl AsyncFn(usize, &Arc<Probe>) -> S) {
    let probe = Arc::new(Probe::new());
    let before = resident();
    let all_up = probe.expect(count as u64);
    let system = start(count, &probe).await;
    all_up.await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let each = resident().saturating_sub(before) / count as u64;
    println!("memory  {name:<8} {count}: {each} B per child (resident)");
    system.stop().await;
}
