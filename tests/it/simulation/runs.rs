//! Scripted runs: they start slowly, wrongly or never, crash, finish, throttle, panic, ignore
//! their stop and die slowly; in calm they do as they are told.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use provost::ports::{AgentRuntime, BoxFuture, RunHealth, RunNews, RunningAgent};
use provost::protocol::exit::{ChildExit, StartError};
use provost::protocol::id::{ChildName, Generation};
use provost::protocol::spec::Shutdown;
use provost::protocol::status::{HealthStatus, Readiness};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::simulation::bugs::Bug;
use crate::simulation::world::{Resource, What, World};

/// As good as for ever.
const NEVER: Duration = Duration::from_secs(100_000_000);

/// Starts the runs of one worker.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) world: Arc<World>,
    pub(crate) child: ChildName,
}

/// How a start goes.
#[derive(Clone, Debug)]
enum Beginning {
    Up,
    Fails(StartError),
    Never,
    Panics,
}

/// What one run does.
#[derive(Clone, Debug)]
struct Script {
    start_after: Duration,
    beginning: Beginning,
    lives: Duration,
    exit: Option<ChildExit>,
    stops_after: Option<Duration>,
    stop_exit: ChildExit,
    dies_after: Duration,
    /// What it tells of itself, and when after its start.
    health: Vec<(Duration, RunHealth)>,
}

impl Script {
    /// A run that does as it is told.
    fn good() -> Self {
        Self {
            start_after: Duration::ZERO,
            beginning: Beginning::Up,
            lives: NEVER,
            exit: Some(ChildExit::Finished),
            stops_after: Some(Duration::ZERO),
            stop_exit: ChildExit::Finished,
            dies_after: Duration::ZERO,
            health: Vec::new(),
        }
    }

    fn draw(rng: &mut Rng, patient: bool) -> Self {
        let ms = |rng: &mut Rng, of: &[u64]| Duration::from_millis(of[rng.usize(..of.len())]);
        let beginning = match rng.u32(..100) {
            0..82 => Beginning::Up,
            82..96 => Beginning::Fails(error(rng)),
            96..98 => Beginning::Never,
            _ => Beginning::Panics,
        };
        let crashes = rng.u32(..100) < 60;
        let lives = if crashes { ms(rng, &[0, 0, 1, 30, 700, 3_000, 12_000]) } else { NEVER };
        // One whose stop has no deadline has to obey, or nothing ever ends it.
        let stops_after = match rng.u32(..100) {
            0..25 if !patient => None,
            25..60 => Some(ms(rng, &[1, 300, 2_000])),
            _ => Some(Duration::ZERO),
        };
        Self {
            start_after: ms(rng, &[0, 0, 0, 5, 200, 4_000]),
            beginning,
            lives,
            exit: exit(rng),
            stops_after,
            stop_exit: if rng.u32(..100) < 15 {
                ChildExit::Exited { code: 3 }
            } else {
                ChildExit::Finished
            },
            dies_after: ms(rng, &[0, 0, 10, 400]),
            health: health(rng),
        }
    }
}

fn error(rng: &mut Rng) -> StartError {
    match rng.u32(..3) {
        0 => StartError::Failed { message: "scripted".to_owned() },
        1 => {
            let text = || "scripted".to_owned();
            StartError::System { program: text(), message: text() }
        }
        _ => StartError::Refused { message: "scripted".to_owned() },
    }
}

/// What a run tells of itself: in most cases nothing, else this and that, and in the end that all
/// is well, so that calm can come.
fn health(rng: &mut Rng) -> Vec<(Duration, RunHealth)> {
    let mut news = Vec::new();
    if rng.u32(..100) < 60 {
        return news;
    }
    let statuses = [
        HealthStatus::Unknown,
        HealthStatus::Healthy,
        HealthStatus::Degraded,
        HealthStatus::Unhealthy,
    ];
    let readiness = [Readiness::Starting, Readiness::NotReady, Readiness::Ready, Readiness::Ready];
    let mut at = Duration::ZERO;
    for _ in 0..rng.usize(..5) {
        at += Duration::from_millis([0, 300, 700, 3_000, 6_000][rng.usize(..5)]);
        let status = statuses[rng.usize(..4)];
        let readiness = readiness[rng.usize(..4)];
        news.push((at, RunHealth { status, readiness, message: "scripted".to_owned() }));
    }
    let status = HealthStatus::Healthy;
    let well = RunHealth { status, readiness: Readiness::Ready, message: String::new() };
    news.push((at + Duration::from_secs(1), well));
    news.reverse();
    news
}

/// How a run ends by itself; `None` panics.
fn exit(rng: &mut Rng) -> Option<ChildExit> {
    match rng.u32(..100) {
        0..50 => Some(ChildExit::Exited { code: 1 }),
        50..60 => Some(ChildExit::Signaled { signal: 9 }),
        60..70 => Some(ChildExit::Failed { message: "scripted".to_owned() }),
        70..82 => Some(ChildExit::Finished),
        82..90 => Some(ChildExit::Throttled { after_ms: [10, 2_000, 20_000][rng.usize(..3)] }),
        90..95 => Some(ChildExit::Lost { message: "scripted".to_owned() }),
        _ => None,
    }
}

impl AgentRuntime for Runtime {
    fn start(
        &self,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let (world, child) = (Arc::clone(&self.world), self.child.clone());
        Box::pin(async move {
            let resource = Resource::new(&world, &child, generation);
            let script = if world.is_calm() {
                Script::good()
            } else {
                let spec = &world.family.kin[&child].spec;
                let patient = spec.shutdown == Shutdown::Infinity;
                Script::draw(&mut world.chance_of(&child, generation), patient)
            };
            if !script.start_after.is_zero() {
                tokio::time::sleep(script.start_after).await;
            }
            match &script.beginning {
                Beginning::Up => {}
                Beginning::Fails(error) => {
                    world.note(What::Failed(child, generation, error.clone()));
                    return Err(error.clone());
                }
                Beginning::Never => std::future::pending().await,
                Beginning::Panics => {
                    let error = StartError::Failed { message: "panic".to_owned() };
                    world.note(What::Failed(child, generation, error));
                    std::panic::resume_unwind(Box::new("scripted panic"));
                }
            }
            resource.note(What::Up);
            let up_at = Instant::now();
            let ends_at = up_at + script.lives;
            let (orders, _) = watch::channel(Orders::default());
            let resource = Some(resource);
            let run: Box<dyn RunningAgent> =
                Box::new(Running { resource, script, up_at, ends_at, orders, done: None });
            Ok(run)
        })
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    stop: Option<Instant>,
    kill: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    resource: Option<Resource>,
    script: Script,
    up_at: Instant,
    ends_at: Instant,
    orders: watch::Sender<Orders>,
    done: Option<ChildExit>,
}

impl Running {
    /// When it ends, as things stand, and how.
    fn end(&self, orders: Orders) -> (Instant, Option<ChildExit>) {
        let mut end = (self.ends_at, self.script.exit.clone());
        if let (Some(asked), Some(after)) = (orders.stop, self.script.stops_after)
            && asked + after < end.0
        {
            end = (asked + after, Some(self.script.stop_exit.clone()));
        }
        if let Some(killed) = orders.kill
            && killed + self.script.dies_after < end.0
        {
            end = (killed + self.script.dies_after, Some(ChildExit::Signaled { signal: 9 }));
        }
        end
    }

    fn note(&self, what: fn(ChildName, Generation) -> What) {
        if let Some(resource) = &self.resource {
            resource.note(what);
        }
    }
}

impl RunningAgent for Running {
    fn pid(&self) -> Option<u32> {
        Some(1)
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(async move {
            if let Some(exit) = &self.done {
                return exit.clone();
            }
            let mut news = self.orders.subscribe();
            let exit = loop {
                let orders = *news.borrow_and_update();
                let (at, exit) = self.end(orders);
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(at) => break exit,
                    _ = news.changed() => {}
                }
            };
            let Some(exit) = exit else {
                self.world_did("a run panics");
                std::panic::resume_unwind(Box::new("scripted panic"));
            };
            self.done = Some(exit.clone());
            if let Some(resource) = &self.resource {
                let (child, generation) = (resource.child.clone(), resource.generation);
                resource.world.note(What::Exit(child, generation, exit.clone()));
            }
            exit
        })
    }

    fn next(&mut self) -> BoxFuture<'_, RunNews> {
        Box::pin(async move {
            if let Some((after, health)) = self.script.health.last().cloned() {
                let at = self.up_at + after;
                tokio::select! {
                    biased;
                    // The exit is kept.
                    exit = self.exited() => return RunNews::Exited(exit),
                    // Its news is taken below, where nothing is awaited.
                    () = tokio::time::sleep_until(at) => {}
                }
                self.script.health.pop();
                if let Some(resource) = &self.resource {
                    let (child, generation) = (resource.child.clone(), resource.generation);
                    resource.world.note(What::Health(child, generation, health.clone()));
                }
                return RunNews::Health(health);
            }
            RunNews::Exited(self.exited().await)
        })
    }

    fn ask_to_stop(&mut self) {
        self.note(What::Ask);
        self.orders.send_modify(|orders| {
            orders.stop.get_or_insert_with(Instant::now);
        });
    }

    fn kill(&mut self) {
        self.note(What::Kill);
        let bug = self.resource.as_ref().and_then(|resource| resource.world.bug);
        if bug == Some(Bug::KillIgnored) {
            return;
        }
        self.orders.send_modify(|orders| {
            orders.kill.get_or_insert_with(Instant::now);
        });
    }
}

impl Running {
    fn world_did(&self, what: &str) {
        if let Some(resource) = &self.resource {
            let (child, generation) = (&resource.child, resource.generation);
            resource.world.note(What::Did(format!("{child}.{generation}: {what}")));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(resource) = self.resource.take() else { return };
        if resource.world.bug == Some(Bug::RunOutlives)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // The planted bug: something of the run is left for a while.
            runtime.spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                drop(resource);
            });
        }
    }
}
