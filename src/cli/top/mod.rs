//! `provost top`: the tree live on a terminal, and what can be done to it.
//!
//! | file | what |
//! |---|---|
//! | `model` | what is known and what is looked at; pure |
//! | `view` | draws the model; changes nothing |
//! | `bindings`, `keys` | which key does what, and does it |
//! | `actions`, `deeds` | commands: how they read, and how they are carried out |
//! | `source`, `wants` | the daemon: events, answers, connecting again |
//! | `terminal` | taken over and given back |
//!
//! The loop here has the only clock. It draws when something has changed, at most every
//! [`NEWS_EVERY`] for news and every [`KEYS_EVERY`] for keys; the library writes only what differs
//! from the last picture, so that a slow link has little to carry.

mod actions;
mod bindings;
mod deeds;
mod keys;
mod model;
#[cfg(test)]
mod sample;
mod source;
mod terminal;
mod view;
mod wants;

use std::io::{self, IsTerminal as _};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until};

use crate::cli::arguments::{ColorWhen, Common, Files};
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::nats_client::NatsClient;
use crate::cli::output::Format;
use crate::cli::runtime;
use crate::cli::top::actions::Deed;
use crate::cli::top::keys::{Wish, press};
use crate::cli::top::model::picture::News;
use crate::cli::top::model::ui::Told;
use crate::cli::top::model::{Model, Want};
use crate::cli::top::source::{DEEDS_MAX, NEWS_MAX, Source, Way, look};
use crate::cli::top::terminal::{Tty, failed};
use crate::cli::top::view::draw;
use crate::cli::top::view::theme::Colors;
use crate::config::Environment;

/// Time between two pictures that news ask for.
const NEWS_EVERY: Duration = Duration::from_millis(250);

/// Time between two pictures that keys ask for.
const KEYS_EVERY: Duration = Duration::from_millis(33);

/// Time between two pictures that only the clock asks for.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// Shows the tree until somebody quits.
///
/// # Errors
///
/// There is no terminal, no daemon answers at the start, or the terminal goes away.
pub(crate) fn top(
    console: &mut Console,
    common: &Common,
    files: &Files,
    environment: &Environment,
) -> Result<Exit, Failure> {
    fit_for_it(common, environment)?;
    let way = Way {
        common: common.clone(),
        files: files.files.clone(),
        environment: environment.clone(),
    };
    let colors = colors(common.color);
    // Everything runs on this one thread, so that nothing of it has to be shared.
    LocalSet::new().block_on(&runtime()?, async {
        let client = way.connect(console).await?;
        let first = look(&client).await?;
        let mut model = Model::new(TimeZone::system(), flags(&way));
        model.take(News::Looked(Box::new(first)), Timestamp::now());
        Box::pin(show(model, way, client, colors)).await
    })
}

/// Refuses what cannot be drawn on.
fn fit_for_it(common: &Common, environment: &Environment) -> Result<(), Failure> {
    let refuse = |message: String| {
        let next = "provost list -w prints every change as a line, with -o jsonl for programs";
        Err(Failure::new(Fault::Usage, message, next))
    };
    if common.output != Format::Table {
        return refuse("top has no output but its picture".to_owned());
    }
    if !io::stdout().is_terminal() {
        return refuse("standard output is no terminal".to_owned());
    }
    match environment.get("TERM") {
        Some("dumb") => refuse("this terminal (TERM=dumb) cannot be drawn on".to_owned()),
        Some(_) | None => Ok(()),
    }
}

fn colors(when: ColorWhen) -> Colors {
    let on = match when {
        ColorWhen::Always => true,
        ColorWhen::Never => false,
        ColorWhen::Auto => AutoStream::choice(&io::stdout()) != ColorChoice::Never,
    };
    // The library below has its own opinion about `NO_COLOR`; ours is the one that counts.
    crossterm::style::force_color_output(on);
    if on { Colors::On } else { Colors::Off }
}

/// The flags that lead to this daemon, without what is secret in them.
fn flags(way: &Way) -> Vec<String> {
    let common = &way.common;
    let mut flags = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            flags.extend([name.to_owned(), value]);
        }
    };
    for file in &way.files {
        add("--config", Some(file.display().to_string()));
    }
    add("--state-dir", common.state_dir.as_ref().map(|folder| folder.display().to_string()));
    add("--nats-url", common.nats_url.as_deref().map(without_secrets));
    add("--context", common.context.clone());
    add("--prefix", common.prefix.as_ref().map(ToString::to_string));
    flags
}

/// Addresses without user and password.
fn without_secrets(urls: &str) -> String {
    let bare = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    };
    urls.split(',').map(bare).collect::<Vec<_>>().join(",")
}

/// Signals that end or stop the program.
struct Signals {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
    stop: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            stop: signal(SignalKind::from_raw(libc::SIGTSTP))?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            // A signal that comes while nobody waits is kept.
            _ = self.terminate.recv() => Wish::Interrupt,
            _ = self.hang_up.recv() => Wish::Interrupt,
            _ = self.interrupt.recv() => Wish::Interrupt,
            _ = self.stop.recv() => Wish::Suspend,
        }
    }
}

/// When the next picture is drawn.
#[derive(Debug)]
struct Due {
    last: Instant,
    next: Option<Instant>,
}

impl Due {
    /// A picture is asked for, not sooner than `gap` after the last one.
    fn ask(&mut self, gap: Duration) {
        let at = self.last + gap;
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    fn drawn(&mut self, now: Instant) {
        *self = Self { last: now, next: None };
    }
}

/// What the loop holds in its hands.
struct Desk {
    model: Model,
    tty: Tty,
    colors: Colors,
    due: Due,
    want: watch::Sender<Want>,
    deeds: mpsc::Sender<Deed>,
    stir: Arc<Notify>,
}

async fn show(model: Model, way: Way, client: NatsClient, colors: Colors) -> Result<Exit, Failure> {
    let mut signals = Signals::listen().map_err(|error| failed(&error))?;
    let (news_in, mut news) = mpsc::channel(NEWS_MAX);
    let (want, wanted) = watch::channel(model.want());
    let (deeds, orders) = mpsc::channel(DEEDS_MAX);
    let stir = Arc::new(Notify::new());
    let source = Source {
        way,
        news: news_in,
        want: wanted,
        orders: Rc::new(Mutex::new(orders)),
        under_way: Rc::default(),
        stir: Arc::clone(&stir),
    };
    let mut side = JoinSet::new();
    side.spawn_local(source.run(client));
    let tty = Tty::take()?;
    let mut input = EventStream::new();
    let now = Instant::now();
    let due = Due { last: now, next: Some(now) };
    let mut desk = Desk { model, tty, colors, due, want, deeds, stir };
    desk.sized();
    loop {
        let clock = desk.due.last + CLOCK_EVERY;
        let wish = tokio::select! {
            // What was typed, told or signalled stays in its queue while another arm runs.
            typed = input.next() => match typed {
                Some(Ok(event)) => desk.typed(&event),
                Some(Err(error)) => return Err(failed(&error)),
                None => Some(Wish::Interrupt),
            },
            Some(news) = news.recv() => {
                desk.model.take(news, Timestamp::now());
                desk.due.ask(NEWS_EVERY);
                None
            }
            wish = signals.next() => Some(wish),
            () = sleep_until(desk.due.next.unwrap_or(clock)), if desk.due.next.is_some() => {
                desk.draw()?;
                None
            }
            () = sleep_until(clock), if desk.model.picture.ticks() => {
                desk.due.ask(NEWS_EVERY);
                None
            }
        };
        desk.tell_wants();
        if let Some(exit) = desk.grant(wish)? {
            return Ok(exit);
        }
    }
}

impl Desk {
    fn typed(&mut self, event: &Event) -> Option<Wish> {
        self.due.ask(KEYS_EVERY);
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                press(&mut self.model, *key, Timestamp::now())
            }
            Event::Resize(..) => {
                self.sized();
                None
            }
            Event::Key(_)
            | Event::FocusGained
            | Event::FocusLost
            | Event::Mouse(_)
            | Event::Paste(_) => None,
        }
    }

    /// Tells what is wanted now, if that is something else than before.
    fn tell_wants(&self) {
        let want = self.model.want();
        self.want.send_if_modified(|old| {
            let differs = *old != want;
            *old = want;
            differs
        });
    }

    fn sized(&mut self) {
        if let Ok(size) = self.tty.terminal().size() {
            self.model.ui.size = (size.width, size.height);
        }
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let (model, colors) = (&self.model, self.colors);
        let now = Timestamp::now();
        let drawn = self.tty.terminal().draw(|frame| draw(frame, model, now, colors));
        drawn.map_err(|error| failed(&error))?;
        self.due.drawn(Instant::now());
        Ok(())
    }

    /// Gives a command to whoever carries it out.
    fn hand_over(&mut self, deed: Deed) {
        if self.deeds.try_send(deed).is_err() {
            self.model.ui.busy = None;
            let text = "too many commands wait already; wait for their end".to_owned();
            self.model.ui.told = Some(Told::Badly(text));
        }
    }

    /// Does what is wished for; gives the exit when that is the end.
    fn grant(&mut self, wish: Option<Wish>) -> Result<Option<Exit>, Failure> {
        match wish {
            None => {}
            Some(Wish::Quit) => return Ok(Some(Exit::Done)),
            Some(Wish::Interrupt) => return Ok(Some(Exit::Interrupted)),
            Some(Wish::Suspend) => {
                self.tty.suspend()?;
                self.sized();
                self.due.ask(Duration::ZERO);
            }
            Some(Wish::Redraw) => {
                self.tty.draw_anew()?;
                self.due.ask(Duration::ZERO);
            }
            Some(Wish::Refresh) => self.stir.notify_one(),
            Some(Wish::Run(deed)) => self.hand_over(deed),
            Some(Wish::Copy(text)) => {
                self.tty.copy(&text)?;
                self.model.ui.told = Some(Told::Well(format!("copied: {text}")));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("nats://u:p@h:4222,nats://h2", "nats://h:4222,nats://h2"),
            ("u:p@h", "h"),
            ("tls://t@h", "tls://h"),
            ("h:4222", "h:4222"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
