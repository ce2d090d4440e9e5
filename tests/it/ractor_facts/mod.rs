//! What the supervisor relies on in ractor, pinned so that an upgrade which changes it fails here.
//!
//! Facts, not wishes: some of them are traps that `actors/` is built around. Time is virtual, so
//! that nothing here waits for real.
//!
//! Words: the *owner* is the supervising actor, which writes down all it sees; its *child* does
//! what it is told and tells when its state is dropped.

mod cast;
mod runs;

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, ActorRuntime, SpawnErr, SupervisionEvent};
use tokio::time::{Instant, sleep};

use crate::ractor_facts::cast::{Child, Log, Order, Owner, Start};

/// An owner with one child that has started.
struct Pair {
    log: Log,
    owner: ActorRef<String>,
    owner_handle: tokio::task::JoinHandle<()>,
    child: ActorRef<Order>,
    child_handle: tokio::task::JoinHandle<()>,
}

async fn pair(start: Start) -> Pair {
    let log = Log::default();
    let (owner, owner_handle) = Actor::spawn(None, Owner(log.clone()), ()).await.unwrap();
    let actor = Child { log: log.clone(), start };
    let (child, child_handle) =
        Actor::spawn_linked(None, actor, (), owner.get_cell()).await.unwrap();
    settle().await;
    Pair { log, owner, owner_handle, child, child_handle }
}

/// Lets everything happen that can happen now: virtual time moves only when all are idle.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Gives the child one order and returns what was seen afterwards.
async fn after(order: Order) -> Vec<String> {
    let pair = pair(Start::Well).await;
    pair.child.send_message(order).unwrap();
    settle().await;
    pair.log.seen()
}

#[tokio::test(start_paused = true)]
async fn a_termination_overtakes_reports_and_carries_the_last_state() {
    let pair = pair(Start::Well).await;
    pair.owner.send_message("busy".to_owned()).unwrap();
    settle().await;
    pair.owner.send_message("report 1".to_owned()).unwrap();
    pair.owner.send_message("report 2".to_owned()).unwrap();
    pair.child.send_message(Order::Exit(7)).unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(
        pair.log.seen(),
        [
            "post_stop",
            "busy",
            "state dropped",
            "terminated: state Some(Some(7)), reason None",
            "report 1",
            "report 2",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_and_a_panic_look_alike_and_hand_over_no_state() {
    let mut failed = after(Order::Fail).await;
    failed.sort();
    assert_eq!(failed, ["failed: handler failed", "state dropped"]);
    let mut panicked = after(Order::Panic).await;
    panicked.sort();
    assert_eq!(panicked, ["failed: handler panicked", "state dropped"]);
}

#[tokio::test(start_paused = true)]
async fn a_kill_is_reported_as_a_termination_and_skips_post_stop() {
    for order in [Order::Nothing, Order::Hang] {
        let pair = pair(Start::Well).await;
        pair.child.send_message(order).unwrap();
        settle().await;
        pair.child.kill();
        settle().await;
        let expected = ["state dropped", "terminated: state Some(None), reason Some(\"killed\")"];
        assert_eq!(pair.log.seen(), expected, "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_inside_post_start_hands_over_no_state() {
    let pair = pair(Start::Never).await;
    pair.child.kill();
    settle().await;
    let mut seen = pair.log.seen();
    seen.sort();
    assert_eq!(seen, ["state dropped", "terminated: state None, reason Some(\"killed\")"]);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_task_is_reported_as_cancelled_without_state() {
    let pair = pair(Start::Well).await;
    pair.child_handle.abort();
    settle().await;
    let mut seen = pair.log.seen();
    seen.sort();
    let cancelled = "terminated: state None, reason Some(\"actor_task_cancelled\")";
    assert_eq!(seen, ["state dropped", cancelled]);
}

/// Fails at once; dropping its state waits until the owner, on another thread, has been told.
#[derive(Debug)]
struct SlowToGo {
    told: Mutex<Option<mpsc::Receiver<()>>>,
    outcome: Log,
}

#[derive(Debug)]
struct Slow {
    told: mpsc::Receiver<()>,
    outcome: Log,
}

impl Drop for Slow {
    fn drop(&mut self) {
        let told = self.told.recv_timeout(Duration::from_secs(20)).is_ok();
        self.outcome.note(format!("state dropped; owner was told before: {told}"));
    }
}

impl Actor for SlowToGo {
    type Msg = ();
    type State = Slow;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<()>, (): ()) -> Result<Slow, ActorProcessingErr> {
        myself.send_message(())?;
        let told = self.told.lock().unwrap().take().unwrap();
        Ok(Slow { told, outcome: self.outcome.clone() })
    }

    async fn handle(
        &self,
        _: ActorRef<()>,
        (): (),
        _: &mut Slow,
    ) -> Result<(), ActorProcessingErr> {
        Err("failed".into())
    }
}

/// Tells a channel when a child has failed.
#[derive(Debug)]
struct Teller(mpsc::Sender<()>);

impl Actor for Teller {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if matches!(event, SupervisionEvent::ActorFailed(..)) {
            self.0.send(())?;
        }
        Ok(())
    }
}

#[test]
fn the_owner_hears_of_a_failure_before_the_dead_childs_state_is_dropped() {
    // Two runtimes, because the child's thread stands still inside Drop meanwhile.
    let owners = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let childs = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (tell, told) = mpsc::channel();
    let outcome = Log::default();
    let (owner, _owner_handle) = owners.block_on(Actor::spawn(None, Teller(tell), ())).unwrap();
    let actor = SlowToGo { told: Mutex::new(Some(told)), outcome: outcome.clone() };
    childs.block_on(async {
        let (_, handle) =
            ActorRuntime::spawn_linked(None, actor, (), owner.get_cell()).await.unwrap();
        handle.await.unwrap();
        // Only the handle tells that nothing of the child is left.
        outcome.note("handle completed");
    });
    let expected = ["state dropped; owner was told before: true", "handle completed"];
    assert_eq!(outcome.seen(), expected);
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_the_state_waits_in_the_owners_mailbox_although_the_handle_completed() {
    let pair = pair(Start::Well).await;
    pair.owner.send_message("busy".to_owned()).unwrap();
    settle().await;
    pair.child.stop(None);
    pair.child_handle.await.unwrap();
    assert_eq!(pair.log.seen(), ["post_stop"]);
    sleep(Duration::from_secs(10)).await;
    assert!(pair.log.seen().contains(&"state dropped".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn when_a_parent_exits_its_children_are_killed_not_stopped() {
    let pair = pair(Start::Well).await;
    pair.owner.stop(None);
    pair.owner_handle.await.unwrap();
    pair.child_handle.await.unwrap();
    // Nobody is told, and `post_stop` did not run.
    assert_eq!(pair.log.seen(), ["state dropped"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_can_be_sent_once_and_a_hung_handler_ignores_it() {
    let pair = pair(Start::Well).await;
    pair.child.send_message(Order::Hang).unwrap();
    settle().await;
    let limit = Some(Duration::from_secs(60));
    let begun = Instant::now();
    pair.child.stop_and_wait(None, limit).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(60));
    let begun = Instant::now();
    pair.child.stop_and_wait(None, limit).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(!pair.child_handle.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_a_hung_handler_and_a_second_one_only_waits() {
    let pair = pair(Start::Well).await;
    pair.child.send_message(Order::Hang).unwrap();
    settle().await;
    pair.child.kill();
    let limit = Some(Duration::from_secs(60));
    let begun = Instant::now();
    pair.child.kill_and_wait(limit).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    pair.child_handle.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pre_start_runs_in_the_spawners_task_unless_it_is_spawned_instantly() {
    let log = Log::default();
    let (owner, _owner_handle) = Actor::spawn(None, Owner(log.clone()), ()).await.unwrap();
    let slow = Start::Slowly(Duration::from_secs(5));
    let child = || Child { log: log.clone(), start: slow };

    let begun = Instant::now();
    let spawned = Actor::spawn_linked(None, child(), (), owner.get_cell()).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(5));

    let begun = Instant::now();
    let (instant, starting) =
        ActorRuntime::spawn_linked_instant(None, child(), (), owner.get_cell()).unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // Messages may be sent at once; the owner is linked only when `pre_start` is over.
    instant.send_message(Order::Nothing).unwrap();
    assert!(instant.try_get_supervisor().is_none());
    starting.await.unwrap().unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    assert!(instant.try_get_supervisor().is_some());
    drop(spawned);
}

#[tokio::test(start_paused = true)]
async fn the_owner_never_hears_of_a_failed_pre_start() {
    let log = Log::default();
    let (owner, _owner_handle) = Actor::spawn(None, Owner(log.clone()), ()).await.unwrap();
    let fails = Start::Badly;
    let child = || Child { log: log.clone(), start: fails };

    let error = Actor::spawn_linked(None, child(), (), owner.get_cell()).await.unwrap_err();
    assert!(matches!(error, SpawnErr::StartupFailed(_)), "{error}");
    let (_, starting) =
        ActorRuntime::spawn_linked_instant(None, child(), (), owner.get_cell()).unwrap();
    let error = starting.await.unwrap().unwrap_err();
    assert!(matches!(error, SpawnErr::StartupFailed(_)), "{error}");
    settle().await;
    assert_eq!(log.seen(), Vec::<String>::new());
    assert!(owner.get_children().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_instantly_spawned_child_can_be_killed_during_pre_start() {
    let log = Log::default();
    let (owner, _owner_handle) = Actor::spawn(None, Owner(log.clone()), ()).await.unwrap();
    let slow = Start::Slowly(Duration::from_secs(3600));
    let child = Child { log: log.clone(), start: slow };
    let (child, starting) =
        ActorRuntime::spawn_linked_instant(None, child, (), owner.get_cell()).unwrap();
    let begun = Instant::now();
    settle().await;
    child.kill();
    starting.await.unwrap().unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1));
    settle().await;
    assert_eq!(log.seen(), Vec::<String>::new());
}

/// Does not implement `handle_supervisor_evt`.
#[derive(Debug)]
struct Careless;

impl Actor for Careless {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_supervisor_handler_stops_the_owner_when_any_child_ends() {
    let (owner, owner_handle) = Actor::spawn(None, Careless, ()).await.unwrap();
    let actor = Child { log: Log::default(), start: Start::Well };
    let (child, _child_handle) =
        Actor::spawn_linked(None, actor, (), owner.get_cell()).await.unwrap();
    child.stop(None);
    tokio::time::timeout(Duration::from_secs(1), owner_handle).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_has_no_bound() {
    let pair = pair(Start::Well).await;
    pair.child.send_message(Order::Hang).unwrap();
    settle().await;
    for _ in 0..100_000 {
        pair.child.send_message(Order::Nothing).unwrap();
    }
    pair.child.kill();
}

#[tokio::test(start_paused = true)]
async fn names_are_shared_by_the_whole_process() {
    let child = || Child { log: Log::default(), start: Start::Well };
    let name = || Some("ractor_facts_only".to_owned());
    let (first, _handle) = Actor::spawn(name(), child(), ()).await.unwrap();
    let error = Actor::spawn(name(), child(), ()).await.unwrap_err();
    assert!(matches!(error, SpawnErr::ActorAlreadyRegistered(_)), "{error}");
    first.kill();
}

#[tokio::test(start_paused = true)]
async fn ractors_timers_follow_virtual_time() {
    let pair = pair(Start::Well).await;
    let begun = Instant::now();
    let hours = Duration::from_secs(10 * 3600);
    pair.child.send_after(hours, || Order::Exit(1)).await.unwrap().unwrap();
    pair.child_handle.await.unwrap();
    assert_eq!(begun.elapsed(), hours);
}
