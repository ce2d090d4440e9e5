//! Where whoever hands out tasks finds the channel of each running agent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::ports::AgentChannel;
use crate::protocol::id::{AgentId, ChildName, Generation};
use crate::protocol::spec::{AgentSpec, RuntimeKind};

/// Channels of the agents that run now. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct AgentChannels {
    channels: Arc<Mutex<BTreeMap<AgentId, Present>>>,
    /// Counts the channels that were put in; tells of every change.
    count: watch::Sender<u64>,
}

/// A channel that can be found.
#[derive(Clone, Debug)]
pub struct Present {
    /// The channel.
    pub channel: Arc<dyn AgentChannel>,
    /// What its agent takes.
    pub offer: Arc<Offer>,
    /// Which of all channels that were ever put in here it is.
    pub number: u64,
}

/// What one run of an agent takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// Name of the agent.
    pub name: ChildName,
    /// How it runs.
    pub runtime: RuntimeKind,
    /// Which run of the agent it is; an adopted one keeps its number.
    pub generation: Generation,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Tasks that it takes at a time.
    pub slots: u32,
    /// Longest silence about a task.
    pub timeout: Duration,
}

impl Offer {
    /// What a run of this agent takes.
    #[must_use]
    pub fn new(spec: &AgentSpec, generation: Generation) -> Self {
        Self {
            name: spec.name.clone(),
            runtime: spec.runtime,
            generation,
            capabilities: spec.capabilities.clone(),
            labels: spec.labels.clone(),
            slots: spec.slots.max(1),
            timeout: spec.timeout,
        }
    }
}

impl AgentChannels {
    /// The channel of an agent, while it runs and has one.
    #[must_use]
    pub fn get(&self, agent: &AgentId) -> Option<Arc<dyn AgentChannel>> {
        self.lock().get(agent).map(|present| Arc::clone(&present.channel))
    }

    /// All channels there are now.
    #[must_use]
    pub fn present(&self) -> BTreeMap<AgentId, Present> {
        self.lock().clone()
    }

    /// Changes whenever a channel is put in or taken out.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Agents that have a channel now.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentId> {
        self.lock().keys().cloned().collect()
    }

    /// Puts the channel of a run in. It leaves with the value that is returned.
    #[must_use = "the channel leaves with it"]
    pub fn enter(
        &self,
        (spec, generation): (&AgentSpec, Generation),
        channel: Arc<dyn AgentChannel>,
    ) -> Registration {
        self.put(spec.agent_id.clone(), Offer::new(spec, generation), channel)
    }

    fn put(&self, agent: AgentId, offer: Offer, channel: Arc<dyn AgentChannel>) -> Registration {
        let mut number = 0;
        let mut channels = self.lock();
        self.count.send_modify(|count| {
            *count = count.saturating_add(1);
            number = *count;
        });
        let offer = Arc::new(offer);
        let present = Present { channel: Arc::clone(&channel), offer, number };
        channels.insert(agent.clone(), present);
        drop(channels);
        Registration { channels: self.clone(), agent, channel }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentId, Present>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for a channel that can be found. Dropping it takes the channel out, unless the next run
/// has put its own in.
#[derive(Debug)]
pub struct Registration {
    channels: AgentChannels,
    agent: AgentId,
    channel: Arc<dyn AgentChannel>,
}

impl Registration {
    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Arc<dyn AgentChannel> {
        &self.channel
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut channels = self.channels.lock();
        let present = channels.get(&self.agent);
        if present.is_some_and(|present| Arc::ptr_eq(&present.channel, &self.channel)) {
            channels.remove(&self.agent);
            self.channels.count.send_modify(|_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{BoxFuture, ChannelError};
    use crate::protocol::agent::{FromAgent, ToAgent};

    #[derive(Debug)]
    struct Mute;

    impl AgentChannel for Mute {
        fn send(&self, _message: &ToAgent) -> Result<(), ChannelError> {
            Err(ChannelError::Closed)
        }

        fn receive(&self) -> BoxFuture<'_, Option<FromAgent>> {
            Box::pin(std::future::ready(None))
        }
    }

    #[test]
    fn a_channel_leaves_with_its_run_and_not_with_an_older_one() {
        let channels = AgentChannels::default();
        let mut changes = channels.changes();
        let agent: AgentId = "a".parse().unwrap();
        let offer = Offer {
            name: "a".parse().unwrap(),
            runtime: RuntimeKind::Stdio,
            generation: Generation(1),
            capabilities: Vec::new(),
            labels: BTreeMap::new(),
            slots: 1,
            timeout: Duration::from_secs(1),
        };
        let first = channels.put(agent.clone(), offer.clone(), Arc::new(Mute));
        let second = channels.put(agent.clone(), offer, Arc::new(Mute));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        drop(first);
        assert!(!changes.has_changed().unwrap(), "it had been replaced");
        let present = channels.present();
        assert_eq!(present.values().map(|one| one.number).collect::<Vec<_>>(), [2]);
        assert!(channels.get(&agent).is_some());
        assert_eq!(channels.agents(), std::slice::from_ref(&agent));
        drop(second);
        assert!(changes.has_changed().unwrap());
        assert!(channels.get(&agent).is_none());
    }
}
