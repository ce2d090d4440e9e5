//! Carries out one question: the time limit, and what the answer means.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::logic::health::{Outcome, Role};
use crate::protocol::care::{ProbeCheck, ProbeSpec};
use crate::runtimes::probed::{ProbedSettings, exec, http};

/// Names a question, and the run that it is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) role: Role,
    pub(super) number: u64,
}

/// Looks, and tells what was found. A bug in the looking is no fault of the run.
pub(super) async fn look(
    settings: Arc<ProbedSettings>,
    spec: ProbeSpec,
    question: Question,
) -> Outcome {
    let looking = AssertUnwindSafe(once(&settings, &spec, question));
    looking.catch_unwind().await.unwrap_or_else(|_panic| Outcome::Unknown {
        message: "the probe itself panicked".to_owned(),
    })
}

async fn once(settings: &ProbedSettings, spec: &ProbeSpec, question: Question) -> Outcome {
    match &spec.check {
        ProbeCheck::Http(address) => answered(spec.timeout, address, http::get(address)).await,
        ProbeCheck::Tcp(address) => answered(spec.timeout, address, connect(address)).await,
        ProbeCheck::Exec(command) => exec::run(settings, command, spec.timeout, question).await,
        ProbeCheck::Notify | ProbeCheck::Beat | ProbeCheck::StdoutWithin(_) => {
            Outcome::Unknown { message: "is heard, not asked".to_owned() }
        }
    }
}

/// Waits for the answer of something that is reached over the network.
async fn answered(
    limit: Duration,
    address: &str,
    asking: impl Future<Output = Result<Result<(), String>, String>>,
) -> Outcome {
    let begun = Instant::now();
    match timeout(limit, asking).await {
        Ok(Ok(Ok(()))) => Outcome::Success { took: Some(begun.elapsed()) },
        Ok(Ok(Err(bad))) => {
            let message = format!("{address}: {bad}");
            Outcome::Failure { took: Some(begun.elapsed()), message }
        }
        Ok(Err(none)) => Outcome::Failure { took: None, message: format!("{address}: {none}") },
        Err(_elapsed) => {
            let message = format!("{address}: no answer within {} s", limit.as_secs_f64());
            Outcome::Failure { took: None, message }
        }
    }
}

/// Connects, and closes in an orderly way: a reset would be an error in the agent's eyes.
async fn connect(address: &str) -> Result<Result<(), String>, String> {
    let connected = TcpStream::connect(address).await;
    connected.map(|_closed| Ok(())).map_err(|error| error.to_string())
}
