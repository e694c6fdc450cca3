//! The local cluster of Tierce: real Kubernetes programs in namespaces of their own, and what is proven on it.

pub mod bench;
pub mod cache;
pub mod cargo;
pub mod cluster;
pub mod command;
pub mod demo;
pub mod folder;
pub mod images;
pub mod install;
pub mod lab;
pub mod leftovers;
pub mod parallel;
pub mod programs;
pub mod sanity;
pub mod stages;
pub mod suite;
pub mod token;
pub mod tools;
pub mod unit;
