//! Circuit breakers beside ours: nanoseconds and allocations of one guarded call.
//!
//! One thread: CPU time of the thread. Two threads share one breaker: wall time of the slower, only
//! of rounds in which neither was interrupted. Medians, and the tenth and ninetieth percentile.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::ready;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use provost::adapters::breaker::{Breaker, Ticks};
use provost::logic::breaker::{BreakerConfig, Force, Window};

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

/// Counts allocations of each thread.
struct Counting;

// SAFETY: everything is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as asked by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as asked by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone, Debug)]
struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

/// What is called: a few nanoseconds that no compiler can leave out.
#[inline]
fn work(fails: bool) -> Result<u64, Failed> {
    if black_box(fails) { Err(Failed) } else { Ok(black_box(7)) }
}

const CALLS: u32 = 20_000;
const ROUNDS: usize = 300;

fn main() {
    println!(
        "{:<44} {:>22} {:>22} {:>6}",
        "ns per call: median (p10 p90)", "1 thread", "2 threads", "allocs"
    );
    floors();
    ours();
    peers();
}

fn floors() {
    let word = AtomicU64::new(1);
    row("floor: the call alone", || || drop(black_box(work(false))));
    row("floor: atomic load", || || drop(black_box(word.load(Ordering::Acquire))));
    row("floor: shared fetch_add", || || drop(black_box(word.fetch_add(1, Ordering::AcqRel))));
    row("floor: Instant::now", || || drop(black_box(Instant::now())));
}

fn never() -> BreakerConfig {
    BreakerConfig {
        failure_threshold: None,
        error_percent: Some(100.0),
        request_volume: 1_000_000_000,
        ..BreakerConfig::default()
    }
}

fn guarded(breaker: &Breaker, fails: bool) {
    match breaker.acquire() {
        Ok(permit) => match work(fails) {
            Ok(_) => permit.ok(),
            Err(_) => permit.error(),
        },
        Err(rejection) => drop(black_box(rejection)),
    }
}

fn ours() {
    let ticks = Ticks::start().unwrap();
    let make = |config| Breaker::new(config, ticks.clone());
    println!("(ours: {} bytes)", size_of::<Breaker>());
    let time = make(never());
    row("ours closed/ok", || || guarded(&time, false));
    let time = make(never());
    row("ours closed/err", || || guarded(&time, true));
    let both = make(BreakerConfig { failure_threshold: Some(1_000_000), ..never() });
    let turn = AtomicU64::new(0);
    row("ours closed, 1 of 10 err, run limited", || {
        let mut own = turn.fetch_add(1, Ordering::Relaxed);
        let both = &both;
        move || {
            own += 1;
            guarded(both, own % 10 == 0);
        }
    });
    let timed = make(BreakerConfig {
        slow_percent: Some(100.0),
        slow_call: Some(Duration::from_secs(5)),
        ..never()
    });
    row("ours closed/ok, slow calls timed", || || guarded(&timed, false));
    let calls = make(BreakerConfig { window: Window::Calls(100), ..never() });
    row("ours closed/ok, last 100 calls", || || guarded(&calls, false));
    let open = make(BreakerConfig {
        failure_threshold: Some(1),
        open_for: Duration::from_secs(3600),
        open_max: Duration::from_secs(3600),
        ..never()
    });
    guarded(&open, true);
    row("ours open/rejected", || || guarded(&open, false));
    let forced = make(never());
    forced.force(Force::Open);
    row("ours forced open/rejected", || || guarded(&forced, false));
}

fn peers() {
    use failsafe::{CircuitBreaker, Config, backoff, failure_policy};
    use recloser::Recloser;
    let hour = || backoff::constant(Duration::from_secs(3600));
    let breaker = Config::new().build();
    row("failsafe 1.3 default closed/ok", || || drop(black_box(breaker.call(|| work(false)))));
    let policy = || failure_policy::consecutive_failures(u32::MAX, hour());
    let breaker = Config::new().failure_policy(policy()).build();
    row("failsafe 1.3 consecutive closed/ok", || || drop(black_box(breaker.call(|| work(false)))));
    let breaker = Config::new().failure_policy(policy()).build();
    row("failsafe 1.3 consecutive closed/err", || || drop(black_box(breaker.call(|| work(true)))));
    let once = failure_policy::consecutive_failures(1, hour());
    let breaker = Config::new().failure_policy(once).build();
    drop(breaker.call(|| work(true)));
    row("failsafe 1.3 open/rejected", || || drop(black_box(breaker.call(|| work(false)))));

    let make = |rate| {
        Recloser::custom()
            .error_rate(rate)
            .closed_len(100)
            .open_wait(Duration::from_secs(3600))
            .build()
    };
    let breaker = make(0.5);
    row("recloser 1.4 closed/ok", || || drop(black_box(breaker.call(|| work(false)))));
    let breaker = make(1.5);
    row("recloser 1.4 closed/err", || || drop(black_box(breaker.call(|| work(true)))));
    let breaker = make(0.5);
    (0..200).for_each(|_| drop(breaker.call(|| work(true))));
    row("recloser 1.4 open/rejected", || || drop(black_box(breaker.call(|| work(false)))));
    tower_resilience();
}

fn tower_resilience() {
    use tower::{Layer, Service, service_fn};
    use tower_resilience_circuitbreaker::CircuitBreakerLayer;
    let layer = |rate: f64, least: usize| {
        CircuitBreakerLayer::builder()
            .failure_rate_threshold(rate)
            .sliding_window_size(100)
            .minimum_number_of_calls(least)
            .wait_duration_in_open(Duration::from_secs(3600))
            .build()
            .unwrap()
    };
    fn call<S: Service<bool>>(service: &mut S, fails: bool) {
        let mut context = Context::from_waker(Waker::noop());
        let _ = service.poll_ready(&mut context);
        let mut future = Box::pin(service.call(fails));
        while let Poll::Pending = future.as_mut().poll(&mut context) {}
    }
    let service = |layer: CircuitBreakerLayer| layer.layer(service_fn(|fails| ready(work(fails))));
    let closed = service(layer(0.5, 100));
    row("tower-resilience 0.14 closed/ok", || {
        let mut own = closed.clone();
        move || call(&mut own, false)
    });
    let failing = service(layer(1.0, usize::MAX));
    row("tower-resilience 0.14 closed/err", || {
        let mut own = failing.clone();
        move || call(&mut own, true)
    });
    let mut open = service(layer(0.5, 10));
    (0..200).for_each(|_| call(&mut open, true));
    row("tower-resilience 0.14 open/rejected", || {
        let mut own = open.clone();
        move || call(&mut own, false)
    });
}

/// tower-resilience sleeps on tokio's clock where threads meet, so there is one.
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// Measures what `make` makes, once for each thread.
fn row<F: FnMut()>(name: &str, make: impl Fn() -> F + Sync) {
    let _entered = RUNTIME.enter();
    let mut one: Vec<f64> = (0..ROUNDS).map(|_| batch(&mut make(), cpu_time)).collect();
    let mut two = Vec::with_capacity(ROUNDS);
    let barrier = Barrier::new(2);
    let rounds = std::sync::Mutex::new(vec![(0.0_f64, true); ROUNDS]);
    std::thread::scope(|scope| {
        for core in 0..2 {
            let (make, barrier, rounds) = (&make, &barrier, &rounds);
            scope.spawn(move || {
                let _entered = RUNTIME.enter();
                pin_to(core);
                let mut call = make();
                for round in 0..ROUNDS {
                    barrier.wait();
                    let before = interruptions();
                    let took = batch(&mut call, wall_time);
                    let clean = before == interruptions();
                    let mut rounds = rounds.lock().unwrap();
                    rounds[round].0 = rounds[round].0.max(took);
                    rounds[round].1 &= clean;
                }
            });
        }
    });
    let rounds = rounds.into_inner().unwrap();
    two.extend(rounds.iter().filter(|(_, clean)| *clean).map(|(took, _)| *took));
    let before = ALLOCATIONS.with(Cell::get);
    let mut call = make();
    let made = ALLOCATIONS.with(Cell::get);
    (0..1000).for_each(|_| call());
    let each = (ALLOCATIONS.with(Cell::get) - made) as f64 / 1000.0;
    black_box(before);
    println!("{name:<44} {:>22} {:>22} {each:>6.1}", shown(&mut one), shown(&mut two));
}

fn batch(call: &mut impl FnMut(), time: fn() -> Duration) -> f64 {
    let begin = time();
    for _ in 0..CALLS {
        call();
    }
    (time() - begin).as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn shown(taken: &mut [f64]) -> String {
    taken.sort_by(f64::total_cmp);
    let at = |percent: usize| taken.get(taken.len() * percent / 100).copied().unwrap_or(f64::NAN);
    format!("{:.1} ({:.1} {:.1})", at(50), at(10), at(90))
}

fn cpu_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn wall_time() -> Duration {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(id, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Times this thread was taken off its core.
fn interruptions() -> i64 {
    // SAFETY: all zeroes is a valid rusage, and the pointer is to it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
        usage.ru_nivcsw
    }
}

fn pin_to(core: usize) {
    // SAFETY: all zeroes is an empty set, and the pointers are to it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}
