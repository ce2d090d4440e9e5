//! The daemon's side: connects, listens, asks, carries commands out, and connects again.
//!
//! Events say when to ask; what is shown is what the daemon answers. So nothing is missed when
//! events are. Four tasks work on one connection and end with it:
//!
//! | task | does |
//! |---|---|
//! | events | reads the newest stored events, then new ones |
//! | looks | asks how the daemon is: after events, else every [`LOOK_EVERY`] |
//! | wants | asks for what only the present screen shows |
//! | deeds | carries commands out, one after the other |
//!
//! Everything goes through one queue of [`NEWS_MAX`] news; when it is full they wait, so that a slow
//! terminal slows the reading of events and nothing else.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cli::arguments::Common;
use crate::cli::client::{Client as _, Fed};
use crate::cli::console::Console;
use crate::cli::failure::{Failure, Fault};
use crate::cli::find;
use crate::cli::nats_client::NatsClient;
use crate::cli::output::Format;
use crate::cli::session::Session;
use crate::cli::top::actions::{Deed, line};
use crate::cli::top::deeds::carry_out;
use crate::cli::top::model::Want;
use crate::cli::top::model::picture::{EVENTS_MAX, Look, News, Outcome};
use crate::cli::top::wants::Wants;
use crate::config::Environment;
use crate::protocol::command::{Answer, ControlCommand, EmptyRequest};
use crate::protocol::route::RouteQuery;
use crate::transport::connect::Connection;
use crate::transport::dead_letters::STREAM as DEAD_LETTERS;
use crate::transport::link::ConnectionState;

/// News that wait to be taken in.
pub(crate) const NEWS_MAX: usize = 256;

/// Commands that wait to be carried out; the dialog lets one through at a time.
pub(crate) const DEEDS_MAX: usize = 4;

/// Asks again after this time although no event came.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Time between two looks, however many events come.
const LOOK_GAP: Duration = Duration::from_millis(500);

/// Events that come within this time are one look.
const SETTLE: Duration = Duration::from_millis(100);

/// Longest wait for an answer to a look.
const LOOK_WAIT: Duration = Duration::from_secs(5);

/// Time between two tries to reach a daemon that is away.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Where the daemon is found again and again: its address may change with each start.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// What every verb takes.
    pub(crate) common: Common,
    /// Configuration files that say where the daemon is.
    pub(crate) files: Vec<PathBuf>,
    /// The environment.
    pub(crate) environment: Environment,
}

impl Way {
    /// Finds the daemon and connects.
    ///
    /// # Errors
    ///
    /// It cannot be found, or NATS cannot be reached.
    pub(crate) async fn connect(&self, console: &mut Console) -> Result<NatsClient, Failure> {
        let settings = find::find(&self.common, &self.files, &self.environment, console)?;
        NatsClient::open(&settings).await
    }
}

/// What the four tasks share.
#[derive(Clone, Debug)]
struct Shared {
    client: Arc<NatsClient>,
    common: Common,
    news: mpsc::Sender<News>,
    /// Something happened: it is worth a look.
    stir: Arc<Notify>,
    /// A look was made: what is wanted besides may have changed.
    seen: Arc<Notify>,
}

/// The daemon's side.
#[derive(Debug)]
pub(crate) struct Source {
    /// Where the daemon is found.
    pub(crate) way: Way,
    /// Where news go.
    pub(crate) news: mpsc::Sender<News>,
    /// What is wanted besides.
    pub(crate) want: watch::Receiver<Want>,
    /// Commands to be carried out.
    pub(crate) orders: Rc<Mutex<mpsc::Receiver<Deed>>>,
    /// The command that is being carried out.
    pub(crate) under_way: Rc<RefCell<Option<Deed>>>,
    /// Somebody asks for a look now.
    pub(crate) stir: Arc<Notify>,
}

impl Source {
    /// Works over a first connection, then over as many as it takes; ends only when it is dropped.
    pub(crate) async fn run(self, first: NatsClient) {
        let mut client = Some(first);
        loop {
            let open = match client.take() {
                Some(client) => Ok(client),
                None => self.way.connect(&mut Console::muted()).await,
            };
            let failure = match open {
                Ok(client) => self.work(client).await,
                Err(failure) => failure,
            };
            let away = News::Away(told(&failure));
            if self.news.send(away).await.is_err() {
                return;
            }
            self.give_up_commands().await;
            sleep(RETRY_EVERY).await;
        }
    }

    /// Tells what the end of the connection has cut off. What waits is not carried out over the
    /// next one: that may be at a time when nobody expects it.
    async fn give_up_commands(&self) {
        let cut = self.under_way.borrow_mut().take();
        let mut orders = self.orders.lock().await;
        let waiting = std::iter::from_fn(|| orders.try_recv().ok());
        let unknown = [
            "the connection was lost before the answer came",
            "it may have been carried out: look before you repeat it",
        ];
        let not = ["the daemon went away", "it was not carried out"];
        let cut = cut.into_iter().map(|deed| (deed, unknown));
        let all: Vec<_> = cut.chain(waiting.map(|deed| (deed, not))).collect();
        for (deed, said) in all {
            let result = Err(said.map(str::to_owned).to_vec());
            let outcome = Outcome { line: line(&deed.words, &[]), result };
            if self.news.send(News::Done(outcome)).await.is_err() {
                return;
            }
        }
    }

    /// Works until the connection is of no use any more; tells why.
    async fn work(&self, client: NatsClient) -> Failure {
        let shared = Shared {
            client: Arc::new(client),
            common: self.way.common.clone(),
            news: self.news.clone(),
            stir: Arc::clone(&self.stir),
            seen: Arc::new(Notify::new()),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn_local(events(shared.clone()));
        tasks.spawn_local(looks(shared.clone()));
        tasks.spawn_local(
            Wants::new(session_parts(&shared)).run(self.want.clone(), Arc::clone(&shared.seen)),
        );
        let under_way = Rc::clone(&self.under_way);
        tasks.spawn_local(deeds(shared.clone(), Rc::clone(&self.orders), under_way));
        let ended = tasks.join_next().await;
        let failure = match ended {
            Some(Ok(failure)) => failure,
            Some(Err(error)) => Failure::new(
                Fault::BadAnswer,
                "a part of this program failed",
                "report this with what the log says",
            )
            .caused_by(&error),
            None => lost(),
        };
        tasks.shutdown().await;
        shared.client.close().await;
        failure
    }
}

fn session_parts(shared: &Shared) -> (Arc<NatsClient>, mpsc::Sender<News>) {
    (Arc::clone(&shared.client), shared.news.clone())
}

/// A session for questions: nothing is printed.
pub(crate) fn asking(client: &NatsClient) -> Session<'_> {
    Session {
        client,
        console: Console::muted(),
        format: Format::Table,
        timeout: Some(LOOK_WAIT),
        clock: Timestamp::now,
        zone: TimeZone::system(),
    }
}

/// A failure in one line, with what to do.
pub(crate) fn told(failure: &Failure) -> String {
    let Some(report) = &failure.report else { return "it ended".to_owned() };
    let cause = report.causes.first().map(|cause| format!(" ({cause})")).unwrap_or_default();
    let message = report.message.lines().next().unwrap_or_default();
    format!("{message}{cause}; {}", report.next)
}

fn lost() -> Failure {
    Failure::new(Fault::NatsUnreachable, "the connection to NATS was lost", "it is tried again")
}

/// Reads the newest stored events, then new ones. Ends when they cannot be read.
async fn events(shared: Shared) -> Failure {
    let recent = match shared.client.recent(EVENTS_MAX).await {
        Ok(Some(feed)) => Ok(feed),
        Ok(None) => shared.client.live().await,
        Err(failure) => Err(failure),
    };
    let mut feed = match recent {
        Ok(feed) => feed,
        Err(failure) => return failure,
    };
    loop {
        let fed = match feed.next().await {
            Ok(fed) => fed,
            Err(failure) => return failure,
        };
        match fed {
            Fed::Event(seen) => {
                if shared.news.send(News::Event(seen)).await.is_err() {
                    return lost();
                }
                shared.stir.notify_one();
            }
            Fed::NoEvent(reason) => tracing::debug!(reason, "message is no event"),
            Fed::End => return lost(),
        }
    }
}

/// Asks how the daemon is, again and again. A daemon that does not answer is told and asked again;
/// ends only when NATS is lost.
async fn looks(shared: Shared) -> Failure {
    let mut link = shared.client.connection().link();
    loop {
        let began = Instant::now();
        let looked = tokio::select! {
            looked = look(&shared.client) => looked,
            // The look is given up as a whole; there will be another over the next connection.
            _ = link.wait_for(|link| link.state != ConnectionState::Connected) => return lost(),
        };
        let (news, wait) = match looked {
            Ok(look) => (News::Looked(Box::new(look)), LOOK_EVERY),
            Err(failure) if failure.is(Fault::NatsUnreachable) => return failure,
            Err(failure) => (News::Away(told(&failure)), RETRY_EVERY),
        };
        if shared.news.send(news).await.is_err() {
            return lost();
        }
        shared.seen.notify_one();
        tokio::select! {
            // A notice that comes while nobody waits is kept.
            () = shared.stir.notified() => {
                sleep(SETTLE).await;
                sleep_until(began + LOOK_GAP).await;
            }
            () = sleep(wait) => {}
            _ = link.wait_for(|link| link.state != ConnectionState::Connected) => return lost(),
        }
    }
}

/// Asks how the daemon is.
///
/// # Errors
///
/// It does not answer, or cannot be understood.
pub(crate) async fn look(client: &NatsClient) -> Result<Look, Failure> {
    let session = asking(client);
    let control = |command: ControlCommand| {
        let session = &session;
        async move { session.ask_system(&command, LOOK_WAIT).await }
    };
    let (status, tree, agents, letters) = tokio::join!(
        control(ControlCommand::Status(EmptyRequest {})),
        control(ControlCommand::Tree(EmptyRequest {})),
        session.list(),
        letters(client.connection()),
    );
    let status = accepted(status?)?;
    let tree = accepted(tree?)?;
    let (Some(system), Some(tree)) = (status.system, tree.tree) else {
        let next = "check that daemon and command line have the same version";
        return Err(Failure::new(Fault::BadAnswer, "the daemon's answer holds no status", next));
    };
    let slots = if system.tasks.state == "on" {
        // Which slots are taken is a detail: where it is not told, it is not shown.
        let route = control(ControlCommand::Route(RouteQuery::default())).await;
        route.map(|answer| slots(&answer)).unwrap_or_default()
    } else {
        BTreeMap::new()
    };
    let agents = agents?.agents.unwrap_or_default();
    Ok(Look { system: *system, tree: *tree, agents, slots, letters })
}

fn accepted(answer: Answer) -> Result<Answer, Failure> {
    match &answer.error {
        Some(error) => Err(error.into()),
        None => Ok(answer),
    }
}

fn slots(answer: &Answer) -> BTreeMap<String, (u32, u32)> {
    let candidates = answer.route.iter().flat_map(|route| &route.candidates);
    let slots = candidates.map(|one| (one.name.to_string(), (one.inflight, one.slots)));
    slots.collect()
}

/// How many dead letters are kept; `None` where nothing keeps them.
async fn letters(connection: &Connection) -> Option<u64> {
    let name = connection.prefix().stream_name(DEAD_LETTERS);
    let context = connection.jetstream();
    let stream = timeout(LOOK_WAIT, context.get_stream(&name)).await.ok()?.ok()?;
    Some(stream.cached_info().state.messages)
}

/// Carries commands out, one after the other.
async fn deeds(
    shared: Shared,
    orders: Rc<Mutex<mpsc::Receiver<Deed>>>,
    under_way: Rc<RefCell<Option<Deed>>>,
) -> Failure {
    let mut orders = orders.lock().await;
    while let Some(deed) = orders.recv().await {
        under_way.replace(Some(deed.clone()));
        let outcome = carry_out(&shared.client, &shared.common, &deed).await;
        under_way.take();
        if shared.news.send(News::Done(outcome)).await.is_err() {
            break;
        }
        shared.stir.notify_one();
    }
    lost()
}
