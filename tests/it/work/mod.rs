//! Work under real servers and daemons: routing asked, resources leased, events consumed, dead
//! letters sent again.

mod queue;
mod resources;
mod route;
