//! Probes that are heard: notify, output, beats.

use std::io::{IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use provost::ports::{AgentRuntime, BoxFuture, RunFace, RunOrigin, RunningAgent};
use provost::protocol::care::{ProbeCheck, ProbeSpec, ProbesSpec};
use provost::protocol::exit::{ChildExit, ExitCodes, StartError};
use provost::protocol::id::{AgentId, Generation};
use provost::protocol::status::Readiness;
use provost::runtimes::probed::{BeatFeed, Beats, Heartbeat, notify_variables};
use rustix::process::Signal;
use tokio::sync::watch;

use crate::health::{Bench, Run, liveness, quick, readiness, startup};
use crate::support::daemon::signal;

/// Says what stands in a file as soon as it is there, one line (a Python expression) at a time.
const SPEAKER: &str = r"
import array,os,signal,socket,sys,time
signal.signal(signal.SIGTERM,lambda *_: sys.exit(0))
s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)
a=os.environ['NOTIFY_SOCKET']
a='\0'+a[1:] if a[0]=='@' else a
def say(text): s.sendto(text.encode(),a)
def flood():
    for n in range(20000): say('STATUS=%d'%n)
def store():
    r,w=os.pipe()
    s.sendmsg([b'FDSTORE=1\nFDNAME=x\nREADY=1'],[(socket.SOL_SOCKET,socket.SCM_RIGHTS,array.array('i',[w]))],0,a)
    os.close(w)
    assert os.read(r,1)==b''
    open('closed','w').close()
def child(text):
    if os.fork()==0:
        os.setsid()
        say(text)
        time.sleep(300)
def pinging():
    while True:
        say('WATCHDOG=1')
        time.sleep(int(os.environ['WATCHDOG_USEC'])/4e6)
done=0
while True:
    lines=open('orders').read().splitlines() if os.path.exists('orders') else []
    for line in lines[done:]:
        eval(line)
    done=len(lines)
    time.sleep(0.01)
";

/// A run that says what it is told to.
async fn speaker(bench: &Bench, probes: ProbesSpec) -> Run {
    bench.start(&["python3", "-c", SPEAKER], probes).await
}

impl Bench {
    fn order(&self, line: &str) {
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.create(true).append(true).open(self.dir.path().join("orders")).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    /// A socket of this very process, which is a stranger to the run.
    fn stranger(&self, spec: &provost::protocol::spec::AgentSpec) -> (UnixDatagram, String) {
        let address = notify_variables(spec, &self.state_dir)[0].1.clone();
        (UnixDatagram::unbound().unwrap(), address)
    }
}

fn notify() -> ProbeSpec {
    ProbeSpec { interval: Duration::from_secs(10), ..quick(ProbeCheck::Notify) }
}

#[tokio::test]
async fn a_run_is_starting_until_it_says_ready_and_its_words_are_shown() {
    let bench = Bench::new().await;
    let mut run = speaker(&bench, startup(notify())).await;
    run.starting().await;
    bench.order("say('STATUS=loading 3 of 9')");
    run.health("says something", |health| health.message == "it says: loading 3 of 9").await;
    bench.order("say('READY=1\\nSTATUS=at work')");
    run.ready().await;
    bench.order("say('RELOADING=1')");
    assert_eq!(run.not_ready().await.message, "it says that it reloads");
    bench.order("say('READY=1')");
    run.ready().await;
}

#[tokio::test]
async fn systemd_a_notification_of_a_stranger_is_ignored_and_one_of_a_descendant_counts() {
    let bench = Bench::new().await;
    let probes = startup(notify());
    let spec = bench.spec(&["python3", "-c", SPEAKER], probes);
    let (stranger, address) = bench.stranger(&spec);
    let mut run = Run(bench.runtime(spec).start(Generation(1)).await.unwrap());
    run.starting().await;
    stranger.send_to(b"READY=1", &address).unwrap();
    stranger.send_to(b"WATCHDOG=trigger", &address).unwrap();
    run.is_quiet().await;
    // It left the session, but is of the run.
    bench.order("child('READY=1')");
    run.ready().await;
}

#[tokio::test]
async fn a_notification_that_is_too_long_is_ignored_and_descriptors_are_closed() {
    let bench = Bench::new().await;
    let mut run = speaker(&bench, startup(notify())).await;
    run.starting().await;
    bench.order("say('READY=1\\nSTATUS='+'x'*5000)");
    run.is_quiet().await;
    bench.order("store()");
    run.ready().await;
    let closed = bench.dir.path().join("closed");
    crate::support::eventually("the descriptor is closed", async || closed.exists().then_some(()))
        .await;
}

#[tokio::test]
async fn a_flood_of_notifications_holds_nothing_back() {
    let bench = Bench::new().await;
    let mut run = speaker(&bench, startup(notify())).await;
    run.starting().await;
    bench.order("flood()");
    bench.order("say('READY=1')");
    run.ready().await;
    run.0.ask_to_stop();
    assert_eq!(run.end().await, ChildExit::Stopped);
}

#[tokio::test]
async fn systemd_a_frozen_process_misses_its_watchdog_and_is_killed() {
    let bench = Bench::new().await;
    let spec = ProbeSpec { interval: Duration::from_millis(500), ..notify() };
    let probes = ProbesSpec { startup: Some(notify()), ..liveness(spec) };
    let mut run = speaker(&bench, probes).await;
    run.starting().await;
    bench.order("say('READY=1') or pinging()");
    run.ready().await;
    // Two times the watchdog's time, and it lives.
    let news = tokio::time::timeout(Duration::from_secs(2), run.0.next()).await;
    assert!(news.is_err(), "{news:?}");
    signal(run.0.pid().unwrap(), Signal::STOP);
    let exit = run.end().await;
    let ChildExit::Watchdog { message, codes } = &exit else { panic!("{exit}") };
    assert_eq!(message, "no WATCHDOG=1 within 1 s");
    assert_eq!(
        *codes,
        ExitCodes { code: None, signal: Some(9) },
        "a frozen process hears no signal"
    );
}

#[tokio::test]
async fn systemd_a_run_may_ask_its_watchdog_for_its_own_end() {
    let bench = Bench::new().await;
    let mut run = speaker(&bench, liveness(notify())).await;
    bench.order("say('STATUS=lost my disk\\nWATCHDOG=trigger')");
    let exit = run.end().await;
    assert_eq!(
        exit.to_string(),
        "watchdog: it asked for its own end; it says: lost my disk",
        "{exit:?}"
    );
}

#[tokio::test]
async fn a_startup_that_never_says_ready_fails() {
    let bench = Bench::new().await;
    let spec = ProbeSpec { interval: Duration::from_millis(100), ..notify() };
    let exit = speaker(&bench, startup(spec)).await.end().await;
    assert_eq!(
        exit.to_string(),
        "probe failed: startup probe failed: no READY=1 within 0.2 s",
        "{exit:?}"
    );
}

#[tokio::test]
async fn a_state_folder_with_a_long_path_has_a_socket_without_a_file() {
    let mut bench = Bench::new().await;
    bench.state_dir = bench.dir.path().join("x".repeat(100));
    let spec = bench.spec(&["true"], startup(notify()));
    let address = notify_variables(&spec, &bench.state_dir)[0].1.clone();
    assert!(address.starts_with("@provost-"), "{address}");
    let mut run = speaker(&bench, startup(notify())).await;
    run.starting().await;
    bench.order("say('READY=1')");
    run.ready().await;
    // Taken by somebody else, it is an error that says so.
    let second = bench.runtime(spec).start(Generation(2)).await.map(|_| ()).unwrap_err();
    assert!(
        second.to_string().contains("cannot listen on the notify socket @provost-"),
        "{second}"
    );
}

#[tokio::test]
async fn the_variables_are_there_only_for_agents_that_notify() {
    let bench = Bench::new().await;
    let names = |probes| notify_variables(&bench.spec(&["true"], probes), &bench.state_dir);
    assert_eq!(names(liveness(quick(ProbeCheck::Beat))), []);
    let socket = bench.state_dir.join("notify/w1").display().to_string();
    let first = ("NOTIFY_SOCKET".to_owned(), socket);
    assert_eq!(names(readiness(notify())), std::slice::from_ref(&first));
    let watchdog = ("WATCHDOG_USEC".to_owned(), "20000000".to_owned());
    assert_eq!(names(liveness(notify())), [first, watchdog]);
}

#[tokio::test]
async fn a_run_without_output_hangs_and_one_with_output_lives() {
    let bench = Bench::new().await;
    let check = |ms| ProbeCheck::StdoutWithin(Duration::from_millis(ms));
    let script = "i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); sleep 0.1; done; sleep 300";
    let begun = std::time::Instant::now();
    let mut run = bench.start(&["sh", "-c", script], liveness(quick(check(1_500)))).await;
    let exit = run.end().await;
    assert!(matches!(&exit, ChildExit::Hung { .. }), "{exit:?}");
    assert_eq!(exit.to_string(), "hung: no output within 1.5 s");
    assert!(Duration::from_secs(3) < begun.elapsed(), "{:?}", begun.elapsed());
}

/// Beats that a test gives.
#[derive(Debug)]
struct Given(watch::Receiver<Heartbeat>);

impl Beats for Given {
    fn listen(&self, _agent: &AgentId) -> BeatFeed {
        BeatFeed::new(self.0.clone(), None)
    }
}

#[tokio::test]
async fn a_run_is_ready_with_its_first_beat_and_hung_without_more() {
    let mut bench = Bench::new().await;
    let (beats, receiver) = watch::channel(Heartbeat::default());
    bench.beats = Some(Arc::new(Given(receiver)));
    let beat = quick(ProbeCheck::Beat);
    let probes = ProbesSpec {
        startup: Some(ProbeSpec { interval: Duration::from_secs(30), ..beat.clone() }),
        ..liveness(beat)
    };
    let mut run = bench.start(&["sleep", "300"], probes).await;
    run.starting().await;
    let every = Some(Duration::from_millis(200));
    beats.send_replace(Heartbeat { number: 1, every, ready: true });
    run.ready().await;
    assert_eq!(run.not_ready().await.message, "suspect: 2 beats are missing");
    let exit = run.end().await;
    assert_eq!(exit.to_string(), "hung: no beat within 0.8 s", "{exit:?}");
}

/// This very process as a run, begun now or adopted.
#[derive(Debug)]
struct Myself(RunOrigin);

impl AgentRuntime for Myself {
    fn start(
        &self,
        _generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let run: Box<dyn RunningAgent> = Box::new(Self(self.0));
        Box::pin(async move { Ok(run) })
    }
}

impl RunningAgent for Myself {
    fn pid(&self) -> Option<u32> {
        Some(std::process::id())
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(std::future::pending())
    }

    fn face(&self) -> RunFace {
        RunFace { pid: self.pid(), origin: self.0, ..RunFace::default() }
    }

    fn ask_to_stop(&mut self) {}

    fn kill(&mut self) {}
}

#[tokio::test]
async fn an_adopted_run_is_starting_only_if_it_was_and_is_heard_at_the_same_address() {
    let bench = Bench::new().await;
    let spec = bench.spec(&["true"], startup(notify()));
    let (socket, address) = bench.stranger(&spec);
    let run = async |origin| {
        let runtime = bench.runtime_around(spec.clone(), Arc::new(Myself(origin)));
        Run(runtime.start(Generation(1)).await.unwrap())
    };
    let mut begun = run(RunOrigin::Begun).await;
    begun.starting().await;
    drop(begun);
    let mut adopted = run(RunOrigin::Adopted).await;
    adopted.starting().await;
    socket.send_to(b"READY=1", &address).unwrap();
    adopted.ready().await;
    let mark = bench.state_dir.join("probes/w1.started");
    let marking = async || {
        // The mark is written while somebody waits for news.
        tokio::time::timeout(Duration::from_millis(20), adopted.0.next()).await.ok();
        std::fs::read(&mark).is_ok_and(|mark| !mark.is_empty()).then_some(())
    };
    crate::support::eventually("the run is marked", marking).await;
    drop(adopted);
    let mut again = run(RunOrigin::Adopted).await;
    assert_eq!(again.0.face().health.unwrap().readiness, Readiness::Ready);
    again.ready().await;
}

#[tokio::test]
async fn a_message_of_no_process_at_all_does_no_harm() {
    let bench = Bench::new().await;
    let spec = bench.spec(&["python3", "-c", SPEAKER], startup(notify()));
    let (stranger, address) = bench.stranger(&spec);
    let mut run = Run(bench.runtime(spec).start(Generation(1)).await.unwrap());
    run.starting().await;
    stranger.connect(&address).unwrap();
    stranger.send(b"").unwrap();
    // A hundred descriptors at once, from a stranger.
    let file = std::fs::File::open("/dev/null").unwrap();
    let files = vec![file.as_fd(); 100];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(100))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&files)));
    let flags = rustix::net::SendFlags::empty();
    rustix::net::sendmsg(&stranger, &[IoSlice::new(b"READY=1")], &mut control, flags).unwrap();
    run.is_quiet().await;
    bench.order("say('READY=1')");
    run.ready().await;
}
