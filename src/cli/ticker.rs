//! Prints events while a daemon runs in the foreground, without ever holding it up.
//!
//! The daemon's observer only puts an event into a bounded queue; a thread of our own writes. When
//! the reader of standard output is slow, the queue fills and events are left out of the picture
//! (not out of the store), and the count is told.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::cli::arguments::ColorWhen;
use crate::cli::console::Console;
use crate::cli::event_text::{Detail, live_line};
use crate::cli::failure::Failure;
use crate::cli::output::{Format, value_of};
use crate::daemon::Observer;
use crate::protocol::event::Envelope;

/// Events that wait to be printed.
const EVENTS_MAX: usize = 4_096;

/// Longest wait for the last events to be printed.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// Prints events until everything is out.
#[derive(Debug)]
pub(crate) struct Ticker {
    /// Gives something, or ends, when the printer has printed all.
    done: Receiver<()>,
    missed: Arc<AtomicU64>,
}

impl Ticker {
    /// Starts printing; the observer goes to the daemon.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub(crate) fn start(
        format: Format,
        color: ColorWhen,
        zone: TimeZone,
    ) -> io::Result<(Self, Observer)> {
        let (sender, receiver) = sync_channel(EVENTS_MAX);
        let (tell, done) = sync_channel(1);
        let missed = Arc::new(AtomicU64::new(0));
        let observer = observer(sender, Arc::clone(&missed));
        thread::Builder::new().name("provost-ticker".to_owned()).spawn(move || {
            let mut console = Console::of_process(color);
            print(&receiver, &mut console, format, &zone);
            // Its drop tells too, however this thread ends.
            tell.try_send(()).unwrap_or_default();
        })?;
        Ok((Self { done, missed }, observer))
    }

    /// Waits until everything is printed, and returns how many events were left out. A reader that
    /// does not read, or an observer that somebody still holds, does not keep us for long.
    pub(crate) fn finish(self) -> u64 {
        if self.done.recv_timeout(FINISH_MAX).is_err() {
            tracing::debug!("the last events may not have been printed");
        }
        self.missed.load(Ordering::Relaxed)
    }
}

fn observer(sender: SyncSender<Envelope>, missed: Arc<AtomicU64>) -> Observer {
    Observer::new(move |event| {
        if sender.try_send(event.clone()).is_err() {
            missed.fetch_add(1, Ordering::Relaxed);
        }
    })
}

fn print(events: &Receiver<Envelope>, console: &mut Console, format: Format, zone: &TimeZone) {
    let mut reader = Ok(());
    for event in events {
        // When the reader has gone, events are still taken, so that none counts as missed.
        if reader.is_ok() {
            reader = print_one(&event, console, format, zone);
        }
    }
}

fn print_one(
    event: &Envelope,
    console: &mut Console,
    format: Format,
    zone: &TimeZone,
) -> Result<(), Failure> {
    let line = match format {
        Format::Table => live_line(event, Detail::Brief, zone),
        Format::Json | Format::Jsonl => Some(value_of(event)?.to_string()),
        Format::Name => Some(event.id.to_string()),
    };
    let Some(line) = line else { return Ok(()) };
    console.line(&line)?;
    console.flush()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{console, envelope_with};

    fn printed(format: Format) -> String {
        let (sender, receiver) = sync_channel(EVENTS_MAX);
        let missed = Arc::new(AtomicU64::new(0));
        let observer = observer(sender, Arc::clone(&missed));
        let running = json!({"name": "w1", "new_state": "running", "pid": 7});
        observer.see(&envelope_with("agent.state_changed", "id-1", running));
        observer.see(&envelope_with("supervision.decision", "id-1", json!({})));
        drop(observer);
        let (mut console, screen) = console();
        print(&receiver, &mut console, format, &TimeZone::UTC);
        assert_eq!(missed.load(Ordering::Relaxed), 0);
        screen.out()
    }

    #[test]
    fn people_see_the_turns_and_machines_all_events() {
        assert_eq!(printed(Format::Table), "12:00:01 w1 running (pid 7)\n");
        assert_eq!(printed(Format::Jsonl).lines().count(), 2);
    }

    #[test]
    fn a_full_queue_never_blocks_and_is_counted() {
        let (sender, receiver) = sync_channel(1);
        let missed = Arc::new(AtomicU64::new(0));
        let observer = observer(sender, Arc::clone(&missed));
        for _ in 0..3 {
            observer.see(&envelope_with("supervision.gap", "w1", json!({})));
        }
        assert_eq!(missed.load(Ordering::Relaxed), 2);
        drop(receiver);
    }
}
