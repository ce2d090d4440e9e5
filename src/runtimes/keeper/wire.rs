//! What daemon and keeper say to each other: JSON, each message after its length (u32, big endian).
//!
//! Order of a conversation: the keeper says `hello` once it holds the lock (or `refused`) with the
//! versions it speaks, the daemon answers `hello` with the one it chose, and the keeper tells by
//! `inventory` which runs it has from before, the last part with `more` false. Then the daemon sends
//! commands and the keeper tells what became of them. Every `start` is answered by exactly one
//! `started` or `start_failed`, every `started` followed by exactly one `exited`, which the keeper
//! remembers until an `ack` of this daemon or a later one. Commands about a run that is gone are
//! ignored.
//!
//! Unknown fields are ignored and missing new ones have defaults, so a newer daemon understands an
//! older keeper; unknown messages are an error. Whoever changes the meaning of a message raises
//! [`VERSION`], and [`VERSION_MIN`] only if the older meaning is not understood any more.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::protocol::care::Privileges;
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::{AgentId, ChildName, Generation};
use crate::protocol::spec::{OnDaemonExit, SignalName};
use crate::runtimes::keeper::pipes::owns_log;

/// Newest version of these messages that this program speaks.
pub const VERSION: u32 = 2;

/// Oldest version that this program speaks. Version 1 had keepers that end with their daemon.
pub const VERSION_MIN: u32 = 2;

/// Runs in one part of an inventory: a part stays far below [`MESSAGE_BYTES_MAX`].
pub(super) const INVENTORY_RUNS_MAX: usize = 500;

/// Longest message in bytes: Linux takes 2 MiB of arguments and environment, JSON may double them.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Runs that one keeper has at a time, at most.
pub(super) const RUNS_MAX: usize = 10_000;

const LENGTH_BYTES: usize = 4;

/// Names one run; daemons give the numbers, and a daemon that takes a keeper over goes on above
/// the highest one that is left.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct RunId(pub(super) u64);

/// From the daemon.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum ToKeeper {
    /// Answers the keeper's greeting with the version that is spoken from here on.
    Hello { version: u32 },
    /// Begin a run.
    Start(Box<Start>),
    /// Send a signal to the run's process group.
    Signal { run: RunId, signal: SignalName },
    /// Kill the run: group, descendants and strays.
    Kill { run: RunId },
    /// The end of a run is known and may be forgotten.
    Ack { run: RunId },
    /// Write to the run's standard input, if it has a pipe there.
    Write { run: RunId, text: String },
    /// Close the run's standard input once all is written.
    CloseStdin { run: RunId },
    /// The run's messages up to this one need not be kept any more.
    Took { run: RunId, up_to: u64 },
    /// End all runs and exit.
    Shutdown,
}

/// From the keeper.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum FromKeeper {
    /// The lock is held and commands are taken.
    Hello {
        version: u32,
        /// Oldest version it speaks; `version` itself if it does not say.
        #[serde(default)]
        version_min: Option<u32>,
        pid: u32,
    },
    /// Runs from before this connection: those that live, and those whose end nobody knows yet.
    Inventory { runs: Vec<Record>, more: bool },
    /// The keeper cannot work and exits.
    Refused { message: String },
    /// The program executes.
    Started { run: RunId, pid: u32, start_time: u64 },
    /// Nothing of the run is there.
    StartFailed { run: RunId, error: StartError },
    /// The run ended and nothing of it is left, unless `note` says otherwise.
    Exited { run: RunId, exit: ChildExit, note: Option<String> },
    /// A log file was rotated, and what that cost.
    LogRotated(LogRotated),
    /// The last sign of life that the run wrote on its standard output.
    Beat { run: RunId, line: String },
    /// A message about a task that the run wrote on its standard output; sent again to the next daemon until
    /// one took it.
    Line { run: RunId, seq: u64, line: String },
    /// Bytes left for the run's standard input.
    Wrote { run: RunId, bytes: u64 },
    /// Bytes for the run's standard input found no room or nobody who reads.
    WriteLost { run: RunId, bytes: u64 },
    /// Output of the run that is not in its log.
    OutputDropped { run: RunId, path: PathBuf, bytes: u64 },
    /// Messages of the run that are in its log instead: too long, or too many waited.
    LinesLogged { run: RunId, too_long: u64, no_room: u64 },
    /// Something for the daemon's log.
    Warned { message: String },
}

/// One rotation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct LogRotated {
    /// The file.
    pub(super) path: PathBuf,
    /// Bytes that moved into the first old file.
    pub(super) kept_bytes: u64,
    /// Bytes that were dropped.
    pub(super) dropped_bytes: u64,
    /// Whether `dropped_bytes` is exact; otherwise it is a lower bound, because the file system
    /// cannot cut the head of a file and the child may have written between copy and cut.
    pub(super) exact: bool,
}

/// All that is needed to begin a run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Start {
    pub(super) run: RunId,
    pub(super) command: Vec<String>,
    /// The whole environment.
    pub(super) env: BTreeMap<String, String>,
    pub(super) cwd: PathBuf,
    pub(super) log: LogSettings,
    pub(super) stop_signal: SignalName,
    /// Time from the stop signal to the kill when the daemon has died.
    pub(super) grace_ms: u64,
    /// File mode mask; the keeper's own if none.
    pub(super) umask: Option<u32>,
    /// Names of environment entries that together are this run's alone.
    pub(super) marks: Vec<String>,
    /// What its processes may use, and who they are.
    #[serde(default)]
    pub(super) confines: Confines,
    /// Whose run it is; none is never adopted.
    #[serde(default)]
    pub(super) owner: Option<Owner>,
    /// What becomes of it when the daemon is killed.
    #[serde(default = "stop")]
    pub(super) on_daemon_exit: OnDaemonExit,
    /// What its standard input, output and error are.
    #[serde(default)]
    pub(super) io: IoMode,
    /// Number of the run for the index of the log; 0 when it has none.
    #[serde(default)]
    pub(super) generation: u64,
}

fn stop() -> OnDaemonExit {
    OnDaemonExit::Stop
}

impl Start {
    /// Whether the run lives on when the keeper is killed. One that is to end with the daemon does
    /// not, because nobody might be left to end it; nor could one whose input or output goes
    /// through pipes that the keeper holds.
    pub(super) fn outlives_keeper(&self) -> bool {
        self.on_daemon_exit == OnDaemonExit::Adopt && !owns_log(&self.io)
    }

    /// The marks with their values, as they stand in the environment.
    pub(super) fn mark_entries(&self) -> Vec<String> {
        let marks = self.marks.iter();
        marks.filter_map(|name| Some(format!("{name}={}", self.env.get(name)?))).collect()
    }
}

/// Whose run it is: by this the next daemon finds it again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Owner {
    /// Name of the child. One run of a name lives at a time.
    pub name: ChildName,
    /// Identity of the agent; a part of the daemon has none.
    pub agent_id: Option<AgentId>,
    /// Run number of an agent; 0 where runs are not numbered across daemons.
    pub generation: Generation,
    /// Stands for the settings that the run was begun with, to see later whether they changed.
    pub settings: u64,
}

/// All that is known of a run besides its environment, which may hold secrets.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a document: each stands for itself")]
pub(super) struct Record {
    pub(super) run: RunId,
    pub(super) pid: u32,
    pub(super) start_time: u64,
    pub(super) owner: Option<Owner>,
    /// Entries `NAME=value` that only this run's processes have.
    pub(super) marks: Vec<String>,
    pub(super) log: LogSettings,
    pub(super) stop_signal: SignalName,
    pub(super) grace_ms: u64,
    pub(super) on_daemon_exit: OnDaemonExit,
    /// Whether it lives on when the keeper is killed.
    pub(super) outlives_keeper: bool,
    /// Whether the keeper inherits what the run orphans; it does not when an earlier keeper, killed
    /// since, had begun the run.
    #[serde(default)]
    pub(super) is_child: bool,
    /// Control group that it was born into, if it has one.
    #[serde(default)]
    pub(super) group: Option<PathBuf>,
    /// Whether a keeper without a daemon asked it to stop.
    #[serde(default)]
    pub(super) is_stopped: bool,
    /// How it ended, if it has.
    #[serde(default)]
    pub(super) end: Option<RunEnd>,
}

/// How a run ended, as long as no daemon has said that it knows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct RunEnd {
    pub(super) exit: ChildExit,
    pub(super) note: Option<String>,
    /// Wall time in milliseconds since 1970, for people.
    pub(super) at_ms: u64,
}

impl Record {
    /// What is known of a run that has just begun.
    pub(super) fn of(start: &Start, pid: u32, start_time: u64) -> Self {
        Self {
            run: start.run,
            pid,
            start_time,
            owner: start.owner.clone(),
            marks: start.mark_entries(),
            log: start.log.clone(),
            stop_signal: start.stop_signal,
            grace_ms: start.grace_ms,
            on_daemon_exit: start.on_daemon_exit,
            outlives_keeper: start.outlives_keeper(),
            is_child: true,
            group: None,
            is_stopped: false,
            end: None,
        }
    }

    /// Whether a daemon that wants this very run may have it.
    pub(super) fn is_adoptable(&self) -> bool {
        !self.is_stopped && (self.end.is_some() || self.on_daemon_exit == OnDaemonExit::Adopt)
    }
}

/// The version to speak with a keeper that speaks `theirs_min..=theirs`, if there is one.
pub(super) fn negotiate(theirs_min: u32, theirs: u32) -> Option<u32> {
    let common = VERSION.min(theirs);
    (VERSION_MIN.max(theirs_min) <= common).then_some(common)
}

/// What the processes of a run may use, and who they are. `None` sets no limit.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Confines {
    /// What its control group is named after, for people; need not be unique.
    pub name: String,
    /// What is to hold the processes together.
    pub hold: Hold,
    /// Memory of all its processes together in bytes; needs a control group with that controller.
    pub memory_bytes: Option<u64>,
    /// Processes and threads together; needs a control group with that controller.
    pub pids: Option<u32>,
    /// Share of the processor under contention, 1 to 10,000; needs a control group with that
    /// controller.
    pub cpu_weight: Option<u32>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Size of a core file in bytes.
    pub core_bytes: Option<u64>,
    /// Whether set-user-id programs still give privileges.
    pub privileges: Privileges,
    /// Who the processes are; the keeper's own user if none.
    pub identity: Option<Identity>,
}

/// What is to hold the processes of a run together.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The strongest that is there: a control group of its own if possible.
    #[default]
    Strongest,
    /// The keeper as their reaper, even where a control group is possible.
    Subreaper,
}

/// User and groups of a process.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// Further groups, the only ones besides.
    pub groups: Vec<u32>,
}

/// What standard input, output and error of a run are.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IoMode {
    /// The log file gets both outputs, straight from the child; input is empty. Nothing can hold
    /// the child up, and rotation may lose bytes, which are counted.
    #[default]
    File,
    /// The keeper reads both outputs and writes the log. Rotation loses nothing; what the disk
    /// cannot take in time is dropped and counted.
    Pipe,
    /// Standard input and output carry messages, other output is log.
    Lines,
    /// Files of its own for input and output; the log gets standard error.
    Files {
        /// Input; empty when absent.
        stdin: Option<PathBuf>,
        /// Output is appended here.
        stdout: PathBuf,
    },
}

/// Where output goes and how much of it is kept.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LogSettings {
    /// File that gets standard output and error, absolute; its folder is made if missing.
    pub file: PathBuf,
    /// Size in bytes from which the file is rotated; above zero. Looked at once a second.
    pub max_bytes: u64,
    /// Old files kept as `<file>.1` (newest) and so on; 0 keeps none.
    pub keep: u32,
}

impl LogSettings {
    /// Rotation at 10 MiB, three old files.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self { file, max_bytes: 10 * 1024 * 1024, keep: 3 }
    }
}

/// A message that cannot be sent or understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("message has {bytes} bytes; at most {MESSAGE_BYTES_MAX} are allowed")]
    TooLong { bytes: usize },
    #[error("message is not understood")]
    Malformed(#[from] serde_json::Error),
}

/// Makes a message with its length in front.
pub(super) fn encode(message: &impl Serialize) -> Result<Vec<u8>, WireError> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MESSAGE_BYTES_MAX)
        .ok_or(WireError::TooLong { bytes: body.len() })?;
    let mut framed = Vec::with_capacity(LENGTH_BYTES + body.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&body);
    Ok(framed)
}

/// Takes bytes as they come and gives whole messages.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Takes bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives the next whole message, if there is one. An error is final: the stream has no
    /// marks to find the next message by.
    pub(super) fn pop<T: DeserializeOwned>(&mut self) -> Result<Option<T>, WireError> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if length > MESSAGE_BYTES_MAX {
            return Err(WireError::TooLong { bytes: length });
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..LENGTH_BYTES + length);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_any_split_of_the_stream() {
        let first = ToKeeper::Signal { run: RunId(7), signal: SignalName::Hup };
        let second = ToKeeper::Shutdown;
        let mut stream = encode(&first).unwrap();
        stream.extend(encode(&second).unwrap());
        for cut in 0..=stream.len() {
            let mut decoder = Decoder::default();
            let all = |decoder: &mut Decoder| -> Vec<ToKeeper> {
                std::iter::from_fn(|| decoder.pop().unwrap()).collect()
            };
            decoder.push(&stream[..cut]);
            let mut seen = all(&mut decoder);
            decoder.push(&stream[cut..]);
            seen.extend(all(&mut decoder));
            assert_eq!(seen, [first.clone(), second.clone()], "cut at {cut}");
        }
    }

    #[test]
    fn the_form_of_messages_is_fixed() {
        let exited = FromKeeper::Exited {
            run: RunId(3),
            exit: ChildExit::Signaled { signal: 9 },
            note: None,
        };
        let framed = encode(&exited).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&framed[4..]),
            r#"{"op":"exited","run":3,"exit":{"kind":"signaled","signal":9},"note":null}"#
        );
        assert_eq!(&framed[..4], &[0, 0, 0, 73]);
    }

    #[test]
    fn the_newest_version_that_both_speak_is_chosen() {
        assert_eq!(negotiate(VERSION, VERSION), Some(VERSION));
        assert_eq!(negotiate(VERSION_MIN, VERSION + 7), Some(VERSION), "a newer keeper");
        assert_eq!(negotiate(VERSION + 1, VERSION + 7), None, "one that forgot our version");
        assert_eq!(negotiate(1, VERSION_MIN - 1), None, "one that is too old");
    }

    #[test]
    fn an_older_and_a_newer_keeper_are_understood() {
        let told = |text: &str| {
            let mut decoder = Decoder::default();
            decoder.push(&u32::try_from(text.len()).unwrap().to_be_bytes());
            decoder.push(text.as_bytes());
            decoder.pop::<FromKeeper>().unwrap().unwrap()
        };
        let hello = FromKeeper::Hello { version: 1, version_min: None, pid: 7 };
        assert_eq!(told(r#"{"op":"hello","version":1,"pid":7}"#), hello);
        let newer = told(
            r#"{"op":"inventory","more":false,"later":{"x":1},"runs":[{"run":3,"pid":9,
            "start_time":77,"owner":null,"marks":[],"log":{"file":"/l","max_bytes":1,"keep":0},
            "stop_signal":"SIGTERM","grace_ms":5,"on_daemon_exit":"adopt","outlives_keeper":true,
            "of_a_later_version":[1]}]}"#,
        );
        let FromKeeper::Inventory { runs, more: false } = newer else { panic!("{newer:?}") };
        assert_eq!((runs[0].run, runs[0].pid, &runs[0].end), (RunId(3), 9, &None));
    }

    #[test]
    fn too_long_and_malformed_messages_are_errors() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_be_bytes());
        assert!(matches!(decoder.pop::<ToKeeper>(), Err(WireError::TooLong { .. })));

        let mut decoder = Decoder::default();
        decoder.push(&[0, 0, 0, 2, b'{', b']']);
        assert!(matches!(decoder.pop::<ToKeeper>(), Err(WireError::Malformed(_))));

        let huge = FromKeeper::Warned { message: "x".repeat(MESSAGE_BYTES_MAX) };
        assert!(matches!(encode(&huge), Err(WireError::TooLong { .. })));
    }
}
