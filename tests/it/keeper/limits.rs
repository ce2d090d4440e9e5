//! Limits of agents' processes, with processes that go beyond them.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use provost::ports::{AgentRuntime, RunningAgent};
use provost::protocol::care::{LimitsSpec, Privileges};
use provost::protocol::exit::{ChildExit, ExitClass, StartError};
use provost::protocol::id::Generation;
use provost::protocol::spec::AgentSpec;
use provost::protocol::status::Containment;
use provost::runtimes::keeper::{Hold, KeeperSlot};
use provost::runtimes::limits::{Limited, Sampler};
use provost::runtimes::process::{ProcessRuntime, ProcessSettings};

use crate::keeper::contain::group_of;
use crate::keeper::ends::spec;
use crate::keeper::{Bench, PATIENCE, skipped, until};

/// An agent of one script.
struct Agent<'a> {
    bench: &'a Bench,
    spec: AgentSpec,
    hold: Hold,
}

impl<'a> Agent<'a> {
    fn new(bench: &'a Bench, script: &str) -> Self {
        Self { bench, spec: spec(bench, script), hold: Hold::Strongest }
    }

    fn memory(mut self, mib: u64) -> Self {
        self.spec.max_memory_mb = Some(mib);
        self
    }

    fn limits(mut self, limits: LimitsSpec) -> Self {
        self.spec.care.limits = limits;
        self
    }

    fn hold(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    async fn try_start(&self) -> Result<Box<dyn RunningAgent>, StartError> {
        self.start_with(&Sampler::default()).await
    }

    async fn start_with(&self, sampler: &Sampler) -> Result<Box<dyn RunningAgent>, StartError> {
        let slot = KeeperSlot::default();
        slot.set(Some(self.bench.keeper.clone()));
        let log = self.bench.dir.path().join("agent.log");
        let mut settings = ProcessSettings::new(self.spec.clone(), log.clone());
        settings.hold = self.hold;
        settings.base_env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/nowhere")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let inner = Arc::new(ProcessRuntime::new(slot, settings));
        let spec = Arc::new(self.spec.clone());
        Limited::new(inner, sampler.clone(), spec, log).start(Generation(7)).await
    }

    async fn start(&self) -> Box<dyn RunningAgent> {
        self.try_start().await.unwrap()
    }

    async fn end(&self) -> ChildExit {
        let mut running = self.start().await;
        tokio::time::timeout(PATIENCE, running.exited()).await.expect("it goes on and on")
    }

    /// Runs to the end and gives the output.
    async fn output(&self) -> Vec<String> {
        fs::remove_file(self.bench.dir.path().join("agent.log")).ok();
        assert_eq!(self.end().await, ChildExit::Exited { code: 0 });
        let text = fs::read_to_string(self.bench.dir.path().join("agent.log")).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn check_out_of_memory(exit: &ChildExit) {
    let ChildExit::OutOfMemory { message, codes } = exit else { panic!("{exit:?}") };
    assert_eq!(codes.signal, Some(9));
    assert!(message.contains("64"), "the limit is told: {message}");
}

/// Holds 150 MiB.
const HOG: &str = "(head -c 150m /dev/zero; sleep 300) | tail";

#[tokio::test]
async fn a_memory_hog_is_ended_as_out_of_memory() {
    let bench = Bench::new().await;
    check_out_of_memory(&Agent::new(&bench, HOG).memory(64).end().await);
}

#[tokio::test]
async fn a_kill_by_the_kernel_for_memory_is_told_as_that_and_any_other_kill_is_not() {
    let bench = Bench::new().await;
    let slot = std::path::Path::new("/sys/fs/cgroup/memory");
    let group = slot.join(format!("provost-test-{}", std::process::id()));
    let limited = fs::create_dir(&group)
        .and_then(|()| fs::write(group.join("memory.limit_in_bytes"), "60M"))
        .and_then(|()| fs::File::open("/dev/kmsg").map(drop));
    if limited.is_err() {
        fs::remove_dir(&group).ok();
        skipped("no memory cgroup of version 1 to be killed in, or the kernel's log is closed");
        return;
    }
    // The sampler is at rest: without max_memory_mb only the kernel acts.
    let procs = group.join("cgroup.procs");
    let hog = format!("sleep 0.3; echo $$ > {}; exec tail /dev/zero", procs.display());
    let by_kernel = Agent::new(&bench, &hog);
    let sampler = Sampler::default();
    let exit = by_kernel.start_with(&sampler).await.unwrap().exited().await;
    fs::remove_dir(&group).unwrap();
    let ChildExit::OutOfMemory { message, codes } = exit else { panic!("{exit:?}") };
    assert!(
        message.starts_with("killed by the kernel (memory cgroup out of memory); "),
        "{message}"
    );
    assert_eq!(codes.signal, Some(9));

    let by_hand = Agent::new(&bench, "kill -KILL $$");
    let exit = by_hand.start_with(&sampler).await.unwrap().exited().await;
    assert_eq!(exit, ChildExit::Signaled { signal: 9 });
}

#[tokio::test]
async fn a_hog_is_found_wherever_it_hides_in_the_tree() {
    let bench = Bench::new().await;
    for hold in [Hold::Strongest, Hold::Subreaper] {
        for script in [
            format!("sh -c \"sh -c '{HOG}; true'; true\"; sleep 300"),
            format!("(setsid sh -c '{HOG}; true' &); exec sleep 300"),
        ] {
            let agent = Agent::new(&bench, &script).memory(64).hold(hold);
            check_out_of_memory(&agent.end().await);
        }
    }
}

#[tokio::test]
async fn processes_that_share_their_memory_are_not_counted_twice_over() {
    let bench = Bench::new().await;
    let script = "exec python3 -c \"
import os, time
block = b'x' * (48 << 20)
for _ in range(4): os.fork()
time.sleep(3)
print(len(block), flush=True)
os._exit(0)
\"";
    if fs::metadata("/usr/bin/python3").is_err() {
        skipped("no python3 here");
        return;
    }
    // 16 processes (each fork forks on) of 48 MiB that they share: 800 MiB resident in sum.
    let agent = Agent::new(&bench, script).memory(256).hold(Hold::Subreaper);
    assert_eq!(agent.end().await, ChildExit::Exited { code: 0 });
}

#[tokio::test]
async fn a_run_within_its_limits_is_left_alone_and_measured_whole() {
    let bench = Bench::new().await;
    for hold in [Hold::Strongest, Hold::Subreaper] {
        let script =
            "exec 9</dev/null; (while :; do :; done) & (setsid sh -c 'while :; do :; done' &)
            sleep 300";
        let mut running = Agent::new(&bench, script).memory(1024).hold(hold).start().await;
        let group = group_of(running.pid().unwrap());
        let held = if group.is_some() { Containment::Cgroup } else { Containment::Subreaper };
        assert_eq!(running.face().containment, Some(held));
        let mut last = running.measure();
        let begun = Instant::now();
        until("all of it is measured", || {
            std::thread::sleep(Duration::from_millis(100));
            last = running.measure();
            // Four processes, each with three standard files, file 9, and the lock of the child.
            last.cpu_usage > Some(0.2) && last.open_files == Some(20)
        })
        .await;
        assert!(last.memory_mb > Some(1.0) && last.memory_mb < Some(100.0), "{last:?}");
        assert!(begun.elapsed() < PATIENCE);
        running.kill();
        assert_eq!(running.exited().await, ChildExit::Killed);
        assert_eq!(running.measure(), Default::default());
    }
}

#[tokio::test]
async fn open_files_and_core_size_are_what_the_limits_say() {
    let bench = Bench::new().await;
    let limits = LimitsSpec { open_files: Some(77), core_bytes: Some(0), ..LimitsSpec::default() };
    let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc";
    let agent = Agent::new(&bench, script).limits(limits);
    assert_eq!(agent.output().await, ["77", "77", "0", "0"]);

    let limits = LimitsSpec { core_bytes: Some(1 << 20), ..LimitsSpec::default() };
    if rustix::process::geteuid().is_root() {
        let agent = Agent::new(&bench, "ulimit -c").limits(limits);
        assert_eq!(agent.output().await, ["2048"], "in blocks of 512 bytes");
    }
}

#[tokio::test]
async fn a_limit_that_the_system_refuses_is_named() {
    let bench = Bench::new().await;
    let limits = LimitsSpec { open_files: Some(1 << 40), ..LimitsSpec::default() };
    let error = Agent::new(&bench, "true").limits(limits).try_start().await.unwrap_err();
    let StartError::System { program, message } = error else { panic!("{error:?}") };
    assert_eq!(program, "sh");
    assert!(message.starts_with("open_files cannot be set to 1099511627776: "), "{message}");
}

#[tokio::test]
async fn privileges_cannot_be_gained_unless_that_is_allowed() {
    let bench = Bench::new().await;
    let script = "grep NoNewPrivs /proc/self/status";
    assert_eq!(Agent::new(&bench, script).output().await, ["NoNewPrivs:\t1"]);
    let limits = LimitsSpec { privileges: Privileges::MayGain, ..LimitsSpec::default() };
    assert_eq!(Agent::new(&bench, script).limits(limits).output().await, ["NoNewPrivs:\t0"]);
}

#[tokio::test]
async fn an_agent_runs_as_the_user_it_is_given_and_as_nobody_else() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can run agents as another user");
        return;
    }
    let bench = Bench::new().await;
    // The folder of the test is root's alone.
    let script = "id -u; id -g; id -G; echo $USER $LOGNAME; echo $HOME; umask
        grep -e ^Uid -e ^Gid /proc/self/status; touch made 2>/dev/null || echo not mine";
    let limits = LimitsSpec { user: Some("nobody".to_owned()), ..LimitsSpec::default() };
    let seen = Agent::new(&bench, script).limits(limits.clone()).output().await;
    assert_eq!(seen[0], "65534");
    assert_eq!(seen[2], seen[1], "no group of root's is left");
    assert_eq!(seen[3], "nobody nobody");
    assert_eq!(seen[4], "/nonexistent");
    assert_eq!(seen[6], "Uid:\t65534\t65534\t65534\t65534");
    assert_eq!(seen[8], "not mine");

    let group = LimitsSpec { group: Some("4242".to_owned()), ..limits };
    let seen = Agent::new(&bench, script).limits(group).output().await;
    assert_eq!(&seen[..2], ["65534", "4242"]);

    let gone = LimitsSpec { user: Some("no-such-user".to_owned()), ..LimitsSpec::default() };
    let error = Agent::new(&bench, script).limits(gone).try_start().await.unwrap_err();
    assert!(error.to_string().contains("no user \"no-such-user\""), "{error}");
}

#[tokio::test]
async fn an_agent_of_another_user_is_ended_with_its_tree_too() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can run agents as another user");
        return;
    }
    let bench = Bench::new().await;
    let limits = LimitsSpec { user: Some("nobody".to_owned()), ..LimitsSpec::default() };
    for hold in [Hold::Strongest, Hold::Subreaper] {
        let script = "trap '' TERM; (setsid sleep 300 &); sleep 300";
        let mut running =
            Agent::new(&bench, script).limits(limits.clone()).hold(hold).start().await;
        running.kill();
        assert_eq!(running.exited().await, ChildExit::Killed);
    }
}

#[tokio::test]
async fn a_run_that_lasts_too_long_is_stopped_and_killed_after_its_grace() {
    let bench = Bench::new().await;
    let limits = LimitsSpec { run_time: Some(Duration::from_millis(200)), ..LimitsSpec::default() };
    let obeys = Agent::new(&bench, "exec sleep 300").limits(limits.clone());
    let exit = obeys.end().await;
    assert_eq!(exit.to_string(), "ran too long: limits.run_time allows 0.2 s");

    let mut ignores = Agent::new(&bench, "trap '' TERM; sleep 300 & wait; sleep 300");
    ignores.spec.stop.grace = Duration::from_millis(300);
    let exit = ignores.limits(limits.clone()).end().await;
    let ChildExit::RanTooLong { codes, .. } = exit else { panic!("{exit:?}") };
    assert_eq!(codes.signal, Some(9));

    // One that ends by itself just then is told as it ended.
    let fails = Agent::new(&bench, "trap 'exit 3' TERM; sleep 300 & wait").limits(limits);
    assert_eq!(fails.end().await, ChildExit::Exited { code: 3 });
}

#[tokio::test]
async fn a_run_that_writes_on_and_on_is_ended_with_the_reason() {
    let bench = Bench::new().await;
    let limits = LimitsSpec { output_bytes: Some(1_000_000), ..LimitsSpec::default() };
    let exit = Agent::new(&bench, "yes").limits(limits).end().await;
    assert_eq!(exit.code_and_signal().signal, Some(9));
    let judged = exit.judged().unwrap();
    assert_eq!(judged.class, ExitClass::Crash);
    assert!(judged.reason.contains("limits.output_size allows 1000000"), "{}", judged.reason);
}
