//! Work under real servers and daemons: routing asked, resources leased, events consumed, dead
//! letters sent again.

mod dead_letters;
mod queue;
mod resources;
mod route;
