//! lib
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod db;
pub mod demo;
pub mod handlers;
pub mod json;
pub mod metrics;
pub mod outbox;
pub mod records;
pub mod samples;
pub mod sandbox;
pub mod transactions;
pub mod wakeup;
pub mod workers;
