//! A whole network in one thread: engines, virtual time, a seeded network, disks that keep what was flushed.

mod cluster;
mod convictions;
mod dice;
mod examples;
mod lives;
mod rounds;
mod traitor;
