//! What workers rely on: a run inside `post_start` is over before anybody hears of its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::mpsc;

use crate::ractor_facts::cast::{Child, Log, Owner, Start};

/// A typed end, as the owner is to see it.
#[derive(Debug, thiserror::Error)]
#[error("run has ended with {0}")]
struct End(u8);

/// Part of a run: says that it is gone, and notes it, when it is dropped.
#[derive(Debug)]
struct Part {
    name: &'static str,
    gone: Arc<AtomicBool>,
    log: Log,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.log.note(self.name);
        self.gone.store(true, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Ends,
    Panics,
    Stays,
}

/// Its run lives in `post_start`.
#[derive(Debug)]
struct Runner {
    way: Way,
    gone: Arc<AtomicBool>,
    log: Log,
}

impl Actor for Runner {
    type Msg = ();
    type State = Part;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<Part, ActorProcessingErr> {
        Ok(Part { name: "state dropped", gone: Arc::default(), log: self.log.clone() })
    }

    async fn post_start(&self, _: ActorRef<()>, _: &mut Part) -> Result<(), ActorProcessingErr> {
        let (gone, log) = (Arc::clone(&self.gone), self.log.clone());
        let _run = Part { name: "run dropped", gone, log };
        tokio::task::yield_now().await;
        match self.way {
            Way::Ends => Err(Box::new(End(7))),
            Way::Panics => panic!("the run panics"),
            Way::Stays => std::future::pending().await,
        }
    }
}

/// Tells what it hears of failures, and whether the run was gone then.
#[derive(Debug)]
struct Listener {
    gone: Arc<AtomicBool>,
    heard: mpsc::Sender<(Option<u8>, bool)>,
}

impl Actor for Listener {
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
        if let SupervisionEvent::ActorFailed(_, error) = event {
            let gone = self.gone.load(Ordering::SeqCst);
            let end = error.downcast::<End>().ok().map(|end| end.0);
            self.heard.try_send((end, gone)).unwrap();
        }
        Ok(())
    }
}

/// What is heard of so many runs, one after another, while two threads go on.
async fn heard(way: Way, runs: usize) -> Vec<(Option<u8>, bool)> {
    let gone = Arc::new(AtomicBool::new(false));
    let (heard, mut told) = mpsc::channel(1);
    let listener = Listener { gone: Arc::clone(&gone), heard };
    let (owner, life) = Actor::spawn(None, listener, ()).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..runs {
        gone.store(false, Ordering::SeqCst);
        let runner = Runner { way, gone: Arc::clone(&gone), log: Log::default() };
        Actor::spawn_linked(None, runner, (), owner.get_cell()).await.unwrap();
        seen.push(told.recv().await.unwrap());
    }
    owner.stop(None);
    life.await.unwrap();
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_post_start_is_gone_before_its_typed_end_is_heard() {
    assert_eq!(heard(Way::Ends, 500).await, vec![(Some(7), true); 500]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_post_start_that_panics_is_gone_before_that_is_heard() {
    assert_eq!(heard(Way::Panics, 50).await, vec![(None, true); 50]);
}

#[tokio::test(start_paused = true)]
async fn a_kill_in_post_start_drops_the_run_before_the_state() {
    let (log, gone) = (Log::default(), Arc::default());
    let (owner, _) = Actor::spawn(None, Owner(Log::default()), ()).await.unwrap();
    let runner = Runner { way: Way::Stays, gone, log: log.clone() };
    let (child, life) = Actor::spawn_linked(None, runner, (), owner.get_cell()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    child.kill();
    life.await.unwrap();
    assert_eq!(log.seen(), ["run dropped", "state dropped"]);
    owner.stop(None);
}

#[tokio::test(start_paused = true)]
async fn an_actor_whose_pre_start_does_not_wait_is_there_after_one_poll() {
    let (owner, _) = Actor::spawn(None, Owner(Log::default()), ()).await.unwrap();
    let child = Child { log: Log::default(), start: Start::Well };
    let spawned = Actor::spawn_linked(None, child, (), owner.get_cell()).now_or_never();
    assert!(spawned.is_some_and(|spawned| spawned.is_ok()));
    owner.stop(None);
}
