//! How agents run: behind `ports::AgentRuntime`.

pub mod in_process;
pub mod judged;
pub mod keeper;
pub mod limits;
pub mod process;
