//! Who may do what with which volume. Decisions only, over facts that somebody else has looked up: nothing here reads or writes
//! anything, so that every program that has to decide decides alike.

pub mod tenancy;
