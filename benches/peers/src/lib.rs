//! Peers of the project, measured beside it: see `src/bin`.
