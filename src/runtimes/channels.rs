//! Where whoever hands out tasks finds the channel of each running agent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ports::AgentChannel;
use crate::protocol::id::AgentId;

/// Channels of the agents that run now. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct AgentChannels {
    channels: Arc<Mutex<BTreeMap<AgentId, Arc<dyn AgentChannel>>>>,
}

impl AgentChannels {
    /// The channel of an agent, while it runs and has one.
    #[must_use]
    pub fn get(&self, agent: &AgentId) -> Option<Arc<dyn AgentChannel>> {
        self.lock().get(agent).cloned()
    }

    /// Agents that have a channel now.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentId> {
        self.lock().keys().cloned().collect()
    }

    /// Puts the channel of a run in. It leaves with the value that is returned.
    #[must_use = "the channel leaves with it"]
    pub fn enter(&self, agent: AgentId, channel: Arc<dyn AgentChannel>) -> Registration {
        self.lock().insert(agent.clone(), Arc::clone(&channel));
        Registration { channels: self.clone(), agent, channel }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentId, Arc<dyn AgentChannel>>> {
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
        if present.is_some_and(|present| Arc::ptr_eq(present, &self.channel)) {
            channels.remove(&self.agent);
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
        let agent: AgentId = "a".parse().unwrap();
        let first = channels.enter(agent.clone(), Arc::new(Mute));
        let second = channels.enter(agent.clone(), Arc::new(Mute));
        drop(first);
        assert!(channels.get(&agent).is_some());
        assert_eq!(channels.agents(), std::slice::from_ref(&agent));
        drop(second);
        assert!(channels.get(&agent).is_none());
    }
}
