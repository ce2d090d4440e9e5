//! What can be done to what is selected: each a command line that somebody could type as well.
//!
//! The words that the dialog shows are the words that are carried out, through the same code as the
//! verbs of the command line.

/// What can be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    Restart,
    Stop,
    Drain,
    Resume,
    Kill,
    Reset,
    CircuitOpen,
    CircuitClosed,
    CircuitAuto,
    TaskCancel,
    TaskRetry,
    LetterReplay,
    LetterDrop,
}

/// Something to be done to one thing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Deed {
    /// The words of the command, without the program's name.
    pub(crate) words: Vec<String>,
    /// What it does, in a sentence.
    pub(crate) says: String,
}

impl Act {
    /// This act on one thing, named by its key.
    pub(crate) fn on(self, key: &str) -> Deed {
        let mut words: Vec<String> = self.verb().iter().map(|word| (*word).to_owned()).collect();
        if key.starts_with('-') {
            words.push("--".to_owned());
        }
        words.push(key.to_owned());
        match self {
            Self::CircuitOpen => words.push("open".to_owned()),
            Self::CircuitClosed => words.push("closed".to_owned()),
            Self::CircuitAuto => words.push("auto".to_owned()),
            Self::Restart
            | Self::Stop
            | Self::Drain
            | Self::Resume
            | Self::Kill
            | Self::Reset
            | Self::TaskCancel
            | Self::TaskRetry
            | Self::LetterReplay
            | Self::LetterDrop => {}
        }
        Deed { words, says: self.says().replace("{}", key) }
    }

    fn verb(self) -> &'static [&'static str] {
        match self {
            Self::Restart => &["restart"],
            Self::Stop => &["stop"],
            Self::Drain => &["drain"],
            Self::Resume => &["resume"],
            Self::Kill => &["kill"],
            Self::Reset => &["reset"],
            Self::CircuitOpen | Self::CircuitClosed | Self::CircuitAuto => &["circuit"],
            Self::TaskCancel => &["task", "cancel"],
            Self::TaskRetry => &["task", "retry"],
            Self::LetterReplay => &["dlq", "replay"],
            Self::LetterDrop => &["dlq", "drop"],
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Restart => "Stops {} in order and starts it again.",
            Self::Stop => "Stops {}; it stays listed and is not restarted.",
            Self::Drain => "Gives {} no new work; what it has goes on.",
            Self::Resume => "Takes a drain of {} back, or starts it again when it is stopped.",
            Self::Kill => {
                "Ends {} at once with SIGKILL, as a crash would; its restart rules apply."
            }
            Self::Reset => "Clears the restart count of {} and closes its circuit.",
            Self::CircuitOpen => "Holds the circuit of {} open: stopped, not restarted, no calls.",
            Self::CircuitClosed => "Holds the circuit of {} closed: its limit is not applied.",
            Self::CircuitAuto => "Lets the rules decide about the circuit of {} again.",
            Self::TaskCancel => "Gives task {} up; its agent is told to stop.",
            Self::TaskRetry => "Submits task {} again under a new id.",
            Self::LetterReplay => "Sends the original of {} again and takes the dead letter out.",
            Self::LetterDrop => "Takes the dead letter {} out for good.",
        }
    }
}

/// A command line that can be pasted into a shell; `way` are the flags that lead to the daemon.
pub(crate) fn line(words: &[String], way: &[String]) -> String {
    let all = words.iter().chain(way).map(|word| quoted(word));
    ["provost".to_owned()].into_iter().chain(all).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |found: char| found.is_ascii_alphanumeric() || "-_./:=,@%+".contains(found);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
