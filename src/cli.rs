//! Subcommands that talk to a running operator over its HTTP port, without a connection to the API server.

mod operator;
mod progress;
pub mod resync;
mod token;
