//! Subcommands that talk to an operator that runs, over its HTTP port. None needs a connection to the
//! API server.

mod operator;
mod progress;
pub mod resync;
mod token;
