//! The host: everything that needs the kernel's help or a privilege.

/// A host: the real one or a simulation.
pub trait Host: Send + Sync + 'static {}
mod linux;
pub use linux::LinuxHost;
