//! Everything that talks to an API server: the client, the watches, the writes, and the meaning of their
//! errors. The only module that names `kube::Client`.

pub mod access;
pub mod backoff;
pub mod client;
pub mod diagnosis;
pub mod events;
mod fence;
pub mod lease;
pub mod list;
pub mod objects;
pub mod platform;
pub mod pod;
pub mod relist;
pub mod requirements;
pub mod sync_status;
mod transport;
pub mod watch;
pub mod write;
