//! One dead downstream among fifty, under load: what do the callers of the other forty-nine see?
//!
//! Fifty services over HTTP on loopback, a few hundred callers, rounds of two seconds in turn: all
//! services alive, then one of them dead (nobody listens on its port). Printed are the latencies of
//! calls to the forty-nine in both kinds of rounds, and the ratio of their 99th percentiles, which
//! the project holds to 1.10. Rounds alternate, so that what else the machine does falls on both.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement reads clocks, talks, and has nobody to hand errors to"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::any;
use provost::actors::defaults::LogSink;
use provost::actors::tree::TreePorts;
use provost::adapters::care::{CareRuntime, Desk, Start};
use provost::config::{Config, Environment, Overrides, Sources};
use provost::daemon::downstreams::desk;
use provost::ports::{AgentRuntime, RunningAgent};
use provost::protocol::downstream::{CallOp, CallRequest};
use provost::protocol::id::Generation;
use provost::transport::slot::ConnectionSlot;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

const SERVICES: usize = 50;
const CALLERS: usize = 200;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 8;

/// Time between two calls of one caller: load, but not all that the machine can do.
const PAUSE: Duration = Duration::from_millis(20);

/// A service on a runtime of its own, so that it can be killed with its connections.
struct Service {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Service {
    fn start(address: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(any(|| async { "{\"ok\":true}" }));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self { address, runtime: Some(runtime) }
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn configured(services: &[Service]) -> Desk {
    let dir = std::env::temp_dir().join(format!("provost-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("bench.toml");
    let sections: String = services
        .iter()
        .enumerate()
        .map(|(index, service)| {
            let address = service.address;
            format!(
                "[downstreams.d{index}]\ntype = \"http\"\n\
                 endpoint = {{ address = \"http://{address}\" }}\n\
                 health = {{ interval = \"1s\" }}\n\
                 resilience = {{ circuit_breaker = {{ open_for = \"500ms\", open_max = \"1s\" }} }}\n"
            )
        })
        .collect();
    std::fs::write(&file, sections).unwrap();
    let environment = Environment::of([("HOME", dir.display().to_string())])
        .with_current_dir(&dir)
        .with_host("bench");
    let sources = Sources { files: vec![file], environment, overrides: Overrides::default() };
    let loaded = Config::load(sources).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let ports = TreePorts::standalone(Arc::new(LogSink));
    desk(&loaded.config, &ports, &ConnectionSlot::new()).unwrap()
}

/// Keeps a downstream's sessions running, as its supervisor would.
async fn keep(desk: Desk, index: usize) {
    let name = format!("d{index}").parse().unwrap();
    let downstream = Arc::clone(desk.get(&name).unwrap());
    let runtime = CareRuntime::new(downstream, Handle::current(), Start::AtOnce);
    loop {
        let mut run: Box<dyn RunningAgent> = runtime.start(Generation(1)).await.unwrap();
        run.exited().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Calls all services in turn for a round; gives the latencies of those to the living.
async fn round(desk: &Desk) -> Vec<Duration> {
    let mut callers = JoinSet::new();
    let end = Instant::now() + ROUND;
    for caller in 0..CALLERS {
        let desk = desk.clone();
        callers.spawn(async move {
            let mut latencies = Vec::new();
            let mut turn = caller;
            while Instant::now() < end {
                turn += 1;
                let index = turn % SERVICES;
                let name = format!("d{index}").parse().unwrap();
                let path = desk.get(&name).unwrap().path();
                let began = Instant::now();
                let answer = path.call(CallRequest::new(CallOp::Request)).await;
                let took = (0 < index).then(|| began.elapsed());
                assert!(took.is_none() || answer.is_ok(), "{answer:?}");
                latencies.extend(took);
                tokio::time::sleep(PAUSE).await;
            }
            latencies
        });
    }
    callers.join_all().await.into_iter().flatten().collect()
}

fn percentile(latencies: &[Duration], percent: usize) -> Duration {
    latencies.get((latencies.len() - 1) * percent / 100).copied().unwrap_or_default()
}

fn rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default()
        / 1024
}

fn main() {
    // `cargo test` runs benches, too, to see that they begin.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut services: Vec<Service> = (0..SERVICES).map(|_| Service::start(any)).collect();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let desk = configured(&services);
    let _keepers: Vec<_> =
        (0..SERVICES).map(|index| runtime.spawn(keep(desk.clone(), index))).collect();
    // Connected, and warm.
    runtime.block_on(tokio::time::sleep(Duration::from_secs(1)));
    runtime.block_on(round(&desk));
    let (mut alive, mut dead) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS {
        let address = services[0].address;
        if number % 2 == 0 {
            if services[0].runtime.is_none() {
                services[0] = Service::start(address);
                runtime.block_on(tokio::time::sleep(Duration::from_secs(2)));
            }
            alive.extend(runtime.block_on(round(&desk)));
        } else {
            services[0].kill();
            dead.extend(runtime.block_on(round(&desk)));
        }
        println!("round {number}: {} MiB", rss_mib());
    }
    for latencies in [&mut alive, &mut dead] {
        latencies.sort_unstable();
    }
    for (what, latencies) in [("all alive", &alive), ("one dead", &dead)] {
        let [half, most, last] = [50, 99, 100].map(|percent| percentile(latencies, percent));
        println!("{what}: {} calls, p50 {half:?}, p99 {most:?}, longest {last:?}", latencies.len());
    }
    let ratio = percentile(&dead, 99).as_secs_f64() / percentile(&alive, 99).as_secs_f64();
    println!("ratio of the 99th percentiles: {ratio:.3}");
    let down = desk.get(&"d0".parse().unwrap()).unwrap();
    println!("the dead one: {:?} {:?}", down.circuit().state, down.path().counts());
}
