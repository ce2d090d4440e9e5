//! The registry: which agents exist, under which identity, and how often each was started.
//!
//! A journal in the state folder, one JSON line an entry, remembers it across daemons: a declared
//! agent keeps its id, an agent spawned at run time is started again until it is removed, and
//! generations are never used twice. Starts are appended without fsync (they survive a SIGKILL of
//! the daemon; after a power loss a generation may repeat); spawns and removals are synced before
//! they are answered, with no lock held. The journal is rewritten when it is read and when it has grown tenfold.
//! A torn last line is skipped and said.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::ports::RunLog;
use crate::protocol::command::SpawnRequest;
use crate::protocol::id::{AgentId, ChildName, Generation};

/// Name of the journal in the state folder.
pub const JOURNAL: &str = "agents.jsonl";

/// Lines in the journal before it is rewritten, at least.
const REWRITE_LINES_MIN: u64 = 10_000;

/// Why the registry cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The journal cannot be read or written.
    #[error(
        "cannot use {path:?}: {source}; check the permissions and free space of the state folder"
    )]
    Io {
        /// The journal.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// One line of the journal.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// An agent's identity.
    Agent { name: ChildName, agent_id: AgentId },
    /// An agent was spawned at run time.
    Spawned { name: ChildName, request: Box<SpawnRequest> },
    /// A spawned agent was removed, or could not be started at its first start.
    Removed { name: ChildName },
    /// A run began.
    Began { name: ChildName, generation: Generation },
}

/// What is remembered of one name.
#[derive(Clone, Debug, Default)]
struct Known {
    agent_id: Option<AgentId>,
    spawned: Option<Box<SpawnRequest>>,
    generation: Generation,
}

#[derive(Debug)]
struct Journal {
    path: PathBuf,
    file: File,
    lines: u64,
    known: BTreeMap<ChildName, Known>,
}

/// Remembers agents and runs in the state folder.
#[derive(Debug)]
pub struct Registry {
    journal: Mutex<Journal>,
}

impl Registry {
    /// Reads the journal of a state folder, or begins one.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Io`] when the journal can be neither read nor written.
    pub fn open(state_dir: &Path) -> Result<Self, RegistryError> {
        let path = state_dir.join(JOURNAL);
        let failed = |source| RegistryError::Io { path: path.clone(), source };
        let known = match File::open(&path) {
            Ok(file) => read(file).map_err(failed)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed(error)),
        };
        let (file, lines) = rewrite(&path, &known).map_err(failed)?;
        Ok(Self { journal: Mutex::new(Journal { path, file, lines, known }) })
    }

    /// The id of an agent, made now when it has none yet.
    pub fn agent_id(&self, name: &ChildName, mint: impl FnOnce() -> AgentId) -> AgentId {
        let mut journal = self.lock();
        if let Some(id) = journal.known.get(name).and_then(|known| known.agent_id.clone()) {
            return id;
        }
        let id = mint();
        journal.known.entry(name.clone()).or_default().agent_id = Some(id.clone());
        journal.append(&Line::Agent { name: name.clone(), agent_id: id.clone() });
        id
    }

    /// The id of an agent, if it has one.
    #[must_use]
    pub fn known_id(&self, name: &ChildName) -> Option<AgentId> {
        self.lock().known.get(name).and_then(|known| known.agent_id.clone())
    }

    /// Remembers an agent that was spawned at run time, before it is started.
    pub fn spawned(&self, name: &ChildName, request: &SpawnRequest) {
        let request = Box::new(request.clone());
        {
            let mut journal = self.lock();
            journal.known.entry(name.clone()).or_default().spawned = Some(request.clone());
            journal.append(&Line::Spawned { name: name.clone(), request });
        }
        self.sync();
    }

    /// Forgets an agent. Its generations stay known, so that a new agent of the name goes on.
    pub fn removed(&self, name: &ChildName) {
        {
            let mut journal = self.lock();
            if let Some(known) = journal.known.get_mut(name) {
                known.spawned = None;
                known.agent_id = None;
            }
            journal.append(&Line::Removed { name: name.clone() });
        }
        self.sync();
    }

    /// Agents that were spawned at run time and not removed since, by name.
    #[must_use]
    pub fn spawned_before(&self) -> Vec<(ChildName, SpawnRequest)> {
        let journal = self.lock();
        let spawned = |(name, known): (&ChildName, &Known)| {
            known.spawned.as_ref().map(|request| (name.clone(), request.as_ref().clone()))
        };
        journal.known.iter().filter_map(spawned).collect()
    }

    /// Syncs the journal with the lock released, so that no start waits for the disk.
    fn sync(&self) {
        let file = self.lock().file.try_clone();
        if let Err(error) = file.and_then(|file| file.sync_data()) {
            tracing::warn!(%error, "agent journal not synced");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name that an agent with this id has in the journal of a state folder; the journal is only
/// read.
#[must_use]
pub fn name_of(state_dir: &Path, agent_id: &str) -> Option<ChildName> {
    let known = read(File::open(state_dir.join(JOURNAL)).ok()?).ok()?;
    let has_it = |known: &Known| known.agent_id.as_ref().is_some_and(|id| id.as_str() == agent_id);
    known.into_iter().find(|(_, known)| has_it(known)).map(|(name, _)| name)
}

impl RunLog for Registry {
    fn began(&self, child: &ChildName, generation: Generation) {
        let mut journal = self.lock();
        journal.known.entry(child.clone()).or_default().generation = generation;
        journal.append(&Line::Began { name: child.clone(), generation });
    }

    fn last(&self, child: &ChildName) -> Generation {
        self.lock().known.get(child).map(|known| known.generation).unwrap_or_default()
    }
}

impl Journal {
    /// Appends a line. A full disk must not stop supervision: it is said, and memory goes on.
    fn append(&mut self, line: &Line) {
        if let Err(error) = self.try_append(line) {
            tracing::warn!(path = %self.path.display(), %error, "agent journal not written");
        }
    }

    fn try_append(&mut self, line: &Line) -> std::io::Result<()> {
        let wanted = u64::try_from(self.known.len()).unwrap_or(u64::MAX).saturating_mul(10);
        if wanted.max(REWRITE_LINES_MIN) < self.lines {
            (self.file, self.lines) = rewrite(&self.path, &self.known)?;
        }
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        self.lines = self.lines.saturating_add(1);
        Ok(())
    }
}

fn read(file: File) -> std::io::Result<BTreeMap<ChildName, Known>> {
    let mut known: BTreeMap<ChildName, Known> = BTreeMap::new();
    for line in BufReader::new(file).split(b'\n') {
        match serde_json::from_slice::<Line>(&line?) {
            Ok(Line::Agent { name, agent_id }) => {
                known.entry(name).or_default().agent_id = Some(agent_id);
            }
            Ok(Line::Spawned { name, request }) => {
                known.entry(name).or_default().spawned = Some(request);
            }
            Ok(Line::Removed { name }) => {
                let known = known.entry(name).or_default();
                known.spawned = None;
                known.agent_id = None;
            }
            Ok(Line::Began { name, generation }) => {
                let known = known.entry(name).or_default();
                known.generation = known.generation.max(generation);
            }
            Err(error) => tracing::warn!(%error, "line of the agent journal skipped"),
        }
    }
    Ok(known)
}

/// Writes the journal anew, beside the old one, and puts it in its place.
fn rewrite(path: &Path, known: &BTreeMap<ChildName, Known>) -> std::io::Result<(File, u64)> {
    let fresh = path.with_extension("jsonl.new");
    let mut file = File::create(&fresh)?;
    let mut lines = 0_u64;
    let mut text = Vec::new();
    for (name, known) in known {
        for line in lines_of(name, known) {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
            lines = lines.saturating_add(1);
        }
    }
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    let file = OpenOptions::new().append(true).open(path)?;
    Ok((file, lines))
}

fn lines_of(name: &ChildName, known: &Known) -> Vec<Line> {
    let name = || name.clone();
    let agent = known.agent_id.clone().map(|agent_id| Line::Agent { name: name(), agent_id });
    let spawned = known.spawned.clone().map(|request| Line::Spawned { name: name(), request });
    let generation = known.generation;
    let began = (generation != Generation(0)).then(|| Line::Began { name: name(), generation });
    [agent, spawned, began].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChildName {
        text.parse().unwrap()
    }

    fn request() -> SpawnRequest {
        serde_json::from_str(r#"{"agent_type":"worker","name":"w1"}"#).unwrap()
    }

    #[test]
    fn the_next_daemon_knows_agents_and_generations() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path()).unwrap();
        let id = registry.agent_id(&name("w1"), || "first".parse().unwrap());
        registry.spawned(&name("w1"), &request());
        registry.began(&name("w1"), Generation(1));
        registry.began(&name("w1"), Generation(2));
        drop(registry);

        let next = Registry::open(folder.path()).unwrap();
        assert_eq!(next.agent_id(&name("w1"), || "second".parse().unwrap()), id);
        assert_eq!(next.last(&name("w1")), Generation(2));
        assert_eq!(next.spawned_before().len(), 1);
    }

    #[test]
    fn a_removed_agent_is_forgotten_but_its_generations_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path()).unwrap();
        registry.spawned(&name("w1"), &request());
        registry.began(&name("w1"), Generation(7));
        registry.removed(&name("w1"));
        drop(registry);

        let next = Registry::open(folder.path()).unwrap();
        assert!(next.spawned_before().is_empty());
        assert_eq!(next.last(&name("w1")), Generation(7));
    }

    #[test]
    fn a_torn_line_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path()).unwrap();
        registry.began(&name("w1"), Generation(3));
        drop(registry);
        let path = folder.path().join(JOURNAL);
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"{\"began\":{\"name\":\"w1\",\"gene").unwrap();

        let next = Registry::open(folder.path()).unwrap();
        assert_eq!(next.last(&name("w1")), Generation(3));
    }
}
