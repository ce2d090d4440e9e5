//! How agents run: behind `ports::AgentRuntime`.

pub mod channels;
pub mod exec;
pub mod in_process;
pub mod judged;
pub mod keeper;
pub mod limits;
pub mod probed;
pub mod process;
pub mod remote;
pub mod stdio;

use crate::ports::{RunNews, RunningAgent};
use crate::protocol::exit::ChildExit;

/// Waits for the end of a run that tells it as news.
///
/// # Cancel safety
///
/// As `next` of the run.
pub(crate) async fn exit_of(running: &mut dyn RunningAgent) -> ChildExit {
    loop {
        if let RunNews::Exited(exit) = running.next().await {
            return exit;
        }
    }
}
