//! The actors of the facts: a child that does what it is told, and an owner that writes down what
//! it sees.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::sleep;

/// What was seen, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// What the child is told to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// Nothing, when handled.
    Nothing,
    /// Store an exit and stop.
    Exit(u8),
    /// Return an error.
    Fail,
    /// Panic.
    Panic,
    /// Never return.
    Hang,
}

/// The child's state: a typed exit, and a note when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    exit: Option<u8>,
    log: Log,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.log.note("state dropped");
    }
}

/// How a child starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// At once.
    Well,
    /// `pre_start` takes so long.
    Slowly(Duration),
    /// `pre_start` fails.
    Badly,
    /// `post_start` never returns.
    Never,
}

#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) log: Log,
    pub(crate) start: Start,
}

impl Actor for Child {
    type Msg = Order;
    type State = Held;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<Held, ActorProcessingErr> {
        match self.start {
            Start::Well | Start::Never => {}
            Start::Slowly(takes) => sleep(takes).await,
            Start::Badly => return Err("pre_start failed".into()),
        }
        Ok(Held { exit: None, log: self.log.clone() })
    }

    async fn post_start(&self, _: ActorRef<Order>, _: &mut Held) -> Result<(), ActorProcessingErr> {
        if matches!(self.start, Start::Never) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        held: &mut Held,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Nothing => {}
            Order::Exit(exit) => {
                held.exit = Some(exit);
                myself.stop(None);
            }
            Order::Fail => return Err("handler failed".into()),
            Order::Panic => panic!("handler panicked"),
            Order::Hang => std::future::pending().await,
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Order>, _: &mut Held) -> Result<(), ActorProcessingErr> {
        self.log.note("post_stop");
        Ok(())
    }
}

/// Writes down reports and ends of children; "busy" keeps it from its mailbox for five seconds.
#[derive(Debug)]
pub(crate) struct Owner(pub(crate) Log);

impl Actor for Owner {
    type Msg = String;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<String>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<String>,
        message: String,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if message == "busy" {
            sleep(Duration::from_secs(5)).await;
        }
        self.0.note(message);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<String>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(_, last, reason) => {
                let exit = last.map(|mut last| last.take::<Held>().unwrap().exit);
                self.0.note(format!("terminated: state {exit:?}, reason {reason:?}"));
            }
            SupervisionEvent::ActorFailed(_, error) => self.0.note(format!("failed: {error}")),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}
