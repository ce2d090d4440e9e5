//! Looks once a second at what runs use, where the kernel does not hold their limits itself; less
//! often at the memory of those that are far below.
//!
//! One thread for all runs of the daemon, asleep while none has such a limit: reading `/proc` can
//! take its time and must not take the supervision's. It finds; ending a run is the run's own
//! wrapper's. While the daemon is away nobody looks: only the kernel's limits hold on then.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::runtimes::keeper::proc;
use crate::runtimes::limits::oom;
use crate::runtimes::limits::tree::{self, RunTree, Strays};

/// Time between two looks.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Longest time between two looks at the memory of a run.
const MEMORY_EVERY_MAX: Duration = Duration::from_secs(4);

/// Memory that a run is taken to fill in a second: one that needs longer for what it has left is
/// looked at that much later.
const FILLED_BYTES_PER_SECOND: u64 = 200 << 20;

/// Longest time for which a memory sum that is over only because of what processes share is not
/// computed anew.
const SHARED_AGAIN: Duration = Duration::from_secs(10);

/// A limit that a run has gone beyond.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Breach {
    Memory { used: u64, limit: u64, processes: usize },
    Output { written: u64, limit: u64 },
}

/// What is watched of a run.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) tree: RunTree,
    /// Memory of all processes in bytes.
    pub(crate) memory: Option<u64>,
    pub(crate) output: Option<OutputWatch>,
}

/// The growth of an output file that is rotated meanwhile.
#[derive(Debug)]
pub(crate) struct OutputWatch {
    file: PathBuf,
    limit: u64,
    size: u64,
    written: u64,
}

/// The one who looks. Clones are the same one; the thread ends with the last.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    shared: Arc<Shared>,
    /// Held by clones only, not by the thread.
    life: Arc<Life>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    strays: Mutex<Strays>,
    /// Kills for want of memory that the kernel had counted at the first question.
    oom_kills: OnceLock<Option<u64>>,
}

#[derive(Debug, Default)]
struct State {
    new: Vec<Entry>,
    thread: Thread,
    /// Things said once.
    said: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Thread {
    #[default]
    None,
    Up,
    /// Told to end: nobody is left who could ask it.
    Ending,
}

#[derive(Debug)]
struct Entry {
    watch: Watch,
    told: Option<oneshot::Sender<Breach>>,
    /// Until when, and up to which sum, shared memory explains a sum beyond the limit.
    shared: Option<(Duration, u64)>,
    /// When its memory is looked at next.
    memory_at: Duration,
}

/// Ends the thread when the last handle is dropped.
#[derive(Debug, Default)]
struct Life(Mutex<Option<Arc<Shared>>>);

impl Drop for Life {
    fn drop(&mut self) {
        let shared = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(shared) = shared {
            lock(&shared.state).thread = Thread::Ending;
            shared.changed.notify_all();
        }
    }
}

impl Sampler {
    /// Watches a run until the receiver is dropped; tells the first breach, then no more.
    pub(crate) fn watch(&self, watch: Watch) -> oneshot::Receiver<Breach> {
        let (told, breach) = oneshot::channel();
        let mut state = lock(&self.shared.state);
        state.new.push(Entry { watch, told: Some(told), shared: None, memory_at: Duration::ZERO });
        if state.thread == Thread::None {
            state.thread = Thread::Up;
            *lock(&self.life.0) = Some(Arc::clone(&self.shared));
            let shared = Arc::clone(&self.shared);
            let began =
                thread::Builder::new().name("limits".to_owned()).spawn(move || run(&shared));
            if let Err(error) = began {
                state.thread = Thread::None;
                tracing::error!(%error, "no thread to sample with: limits that need it do not hold");
            }
        }
        self.shared.changed.notify_all();
        breach
    }

    /// Uses what is known of strays.
    pub(crate) fn with_strays<T>(&self, look: impl FnOnce(&mut Strays) -> T) -> T {
        look(&mut lock(&self.shared.strays))
    }

    /// Kills for want of memory that the kernel had counted when this was first asked.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        *self.shared.oom_kills.get_or_init(oom::kills)
    }

    /// Whether this is said for the first time.
    pub(crate) fn first(&self, what: &str) -> bool {
        lock(&self.shared.state).said.insert(what.to_owned())
    }
}

/// The thread: sleeps while there is nothing to watch.
fn run(shared: &Shared) {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let round = proc::monotonic();
        {
            let mut state = lock(&shared.state);
            while state.thread == Thread::Up && state.new.is_empty() && entries.is_empty() {
                state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.thread != Thread::Up {
                return;
            }
            entries.append(&mut state.new);
        }
        entries.retain_mut(|entry| {
            let watched = entry.told.as_ref().is_some_and(|told| !told.is_closed());
            // One run at a time, so that a measurement waits for one run's reading only.
            watched && entry.look(&mut lock(&shared.strays), proc::monotonic())
        });
        let rest = SAMPLE_EVERY.saturating_sub(proc::monotonic().saturating_sub(round));
        let state = lock(&shared.state);
        let ending = |state: &mut State| state.thread == Thread::Up;
        // Only an end wakes it early: new runs can wait for the next round.
        drop(shared.changed.wait_timeout_while(state, rest, ending));
    }
}

impl Entry {
    /// Looks once; false when there is nothing more to watch.
    fn look(&mut self, strays: &mut Strays, now: Duration) -> bool {
        let breach = match self.watch.memory {
            Some(limit) if self.memory_at <= now => match self.over_memory(limit, strays, now) {
                Seen::Gone => return false,
                Seen::Over(breach) => Some(breach),
                Seen::Below => None,
            },
            Some(_) | None => None,
        };
        let breach = breach.or_else(|| self.watch.output.as_mut()?.over());
        let Some(breach) = breach else { return true };
        // Nobody listens any more if the run has just ended.
        self.told.take().map(|told| told.send(breach));
        false
    }

    fn over_memory(&mut self, limit: u64, strays: &mut Strays, now: Duration) -> Seen {
        let members = self.watch.tree.members(strays);
        let usage = self.watch.tree.usage(&members);
        if usage.processes == 0 {
            return Seen::Gone;
        }
        let sum = usage.resident_bytes;
        self.memory_at = now + until_filled(limit.saturating_sub(sum));
        let explained = self.shared.is_some_and(|(until, up_to)| now < until && sum <= up_to);
        if sum <= limit || explained {
            return Seen::Below;
        }
        let mut used = sum;
        if members.len() > 1 {
            // Forked workers share most of their memory; who is killed is killed for what it uses.
            used = tree::proportional_bytes(&members).unwrap_or(sum);
        }
        if used <= limit {
            self.shared = Some((now + SHARED_AGAIN, sum.saturating_add((limit - used) / 2)));
            return Seen::Below;
        }
        Seen::Over(Breach::Memory { used, limit, processes: usage.processes })
    }
}

/// Time before which a run is not looked at again that may use so many bytes more. A little less than
/// a round is, so that none is missed.
fn until_filled(left: u64) -> Duration {
    let most = MEMORY_EVERY_MAX.as_secs();
    let seconds = (left / FILLED_BYTES_PER_SECOND).min(most);
    Duration::from_secs(seconds).saturating_sub(SAMPLE_EVERY / 2)
}

enum Seen {
    /// The run has ended.
    Gone,
    Below,
    Over(Breach),
}

impl OutputWatch {
    /// Watches from the file's present size on.
    pub(crate) fn new(file: PathBuf, limit: u64) -> Self {
        let size = size_of_file(&file);
        Self { file, limit, size, written: 0 }
    }

    /// Adds the growth since the last look. A file that became shorter was rotated: what it had is
    /// then in the newest old file, but for what rotation dropped, so a flood beyond the rotation's
    /// own bound is counted as at least that much.
    fn over(&mut self) -> Option<Breach> {
        let size = size_of_file(&self.file);
        let moved = if size < self.size { size_of_file(&first_old(&self.file)) } else { 0 };
        let grown = moved.saturating_add(size).saturating_sub(self.size);
        self.written = self.written.saturating_add(grown);
        self.size = size;
        let breach = Breach::Output { written: self.written, limit: self.limit };
        (self.limit < self.written).then_some(breach)
    }
}

fn size_of_file(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

fn first_old(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is right after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_is_left_the_sooner_the_next_look() {
        let at = |left_mib: u64| until_filled(left_mib << 20).as_millis();
        assert_eq!([0, 199, 200, 450, 1_024, 1 << 20].map(at), [0, 0, 500, 1_500, 3_500, 3_500]);
    }

    #[test]
    fn output_is_counted_over_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w1.log");
        let write = |name: &str, bytes: usize| {
            fs::write(dir.path().join(name), vec![b'x'; bytes]).unwrap();
        };
        write("w1.log", 500);
        let mut watch = OutputWatch::new(file, 1_000);
        assert_eq!(watch.over(), None);
        write("w1.log", 900);
        assert_eq!(watch.over(), None, "400 are new");
        // Rotated at 1,200; then 200 came.
        write("w1.log.1", 1_200);
        write("w1.log", 200);
        assert_eq!(watch.over(), None);
        assert_eq!(watch.written, 900);
        write("w1.log", 301);
        assert_eq!(watch.over(), Some(Breach::Output { written: 1_001, limit: 1_000 }));
    }

    #[test]
    fn the_thread_ends_with_the_last_handle_and_a_dropped_receiver_ends_the_watch() {
        let sampler = Sampler::default();
        let tree = RunTree::of(std::process::id()).unwrap();
        let watch = || Watch { tree: tree.clone(), memory: Some(u64::MAX), output: None };
        let first = sampler.watch(watch());
        drop(first);
        let second = sampler.watch(Watch { memory: Some(1), ..watch() });
        let breach = second.blocking_recv().unwrap();
        assert!(matches!(breach, Breach::Memory { limit: 1, .. }), "{breach:?}");
        let shared = Arc::downgrade(&sampler.shared);
        drop(sampler);
        let patience = proc::monotonic() + Duration::from_secs(20);
        while shared.upgrade().is_some() {
            assert!(proc::monotonic() < patience, "the thread lives on");
            thread::yield_now();
        }
    }
}
