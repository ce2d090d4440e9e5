//! A bare tokio task that starts dead tasks again: what no supervisor can go below.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::System;
use crate::probe::Probe;

/// The task and the triggers of its children.
#[derive(Debug)]
pub(crate) struct Floor {
    task: JoinHandle<()>,
    crashes: Vec<Arc<Notify>>,
}

impl System for Floor {
    fn crash(&self, child: usize) {
        self.crashes.get(child).unwrap().notify_one();
    }

    async fn stop(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

pub(crate) async fn start(count: usize, probe: &Arc<Probe>) -> Floor {
    let crashes: Vec<_> = (0..count).map(|_| Arc::new(Notify::new())).collect();
    let task = tokio::spawn(supervise(crashes.clone(), Arc::clone(probe)));
    Floor { task, crashes }
}

async fn supervise(crashes: Vec<Arc<Notify>>, probe: Arc<Probe>) {
    let mut children = JoinSet::new();
    let spawn = |children: &mut JoinSet<usize>, place: usize| {
        let (probe, crash) = (Arc::clone(&probe), Arc::clone(crashes.get(place).unwrap()));
        children.spawn(async move {
            let (_kept, _inbox) = mpsc::unbounded_channel::<()>();
            probe.up();
            crash.notified().await;
            probe.crash();
            place
        });
    };
    for place in 0..crashes.len() {
        spawn(&mut children, place);
    }
    while let Some(place) = children.join_next().await {
        spawn(&mut children, place.unwrap());
    }
}
