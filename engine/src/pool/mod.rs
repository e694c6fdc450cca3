//! Pools: where volumes lie.

mod config;

pub use config::{Backend, PoolConfig, PoolReport, PoolUsage, Provisioning};
