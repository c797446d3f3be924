//! `[limits]` and `[cors]`: what one client may cost, and which web pages may call.

use std::time::Duration;

use axum::http::HeaderValue;
use serde::Deserialize;

use crate::{handlers, serve};

/// What one client may cost. State is per instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections that may be open; further ones wait.
    pub connections: usize,
    /// How long a connection may be without an open request, and how long a request's header may take.
    pub idle_seconds: u64,
    /// How long a client may take nothing of an answer.
    pub stall_seconds: u64,
    /// Bytes of a request's line and header.
    pub header_bytes: usize,
    /// Fields of a request's header.
    pub header_count: usize,
    /// How long an answer may take once the request was read; a wait that was asked for comes on top.
    pub request_seconds: u64,
    /// How long a body may pause.
    pub body_idle_seconds: u64,
    /// What a body has to bring on average, in bytes per second.
    pub body_bytes_per_second: u64,
    /// Requests per second of one principal; 0: without limit.
    pub requests_per_second: u32,
    /// Requests of one principal that may come at once.
    pub burst: u32,
    /// Bytes of JSON bodies that are worked on at a time; further ones wait a moment, then get 503.
    pub inline_bytes: usize,
    /// `Strict-Transport-Security: max-age`; 0: not sent.
    pub hsts_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            idle_seconds: 30,
            stall_seconds: 30,
            header_bytes: 16 * 1024,
            header_count: 64,
            request_seconds: 30,
            body_idle_seconds: 20,
            body_bytes_per_second: 1024,
            requests_per_second: 100,
            burst: 1000,
            inline_bytes: 256 * 1024 * 1024,
            hsts_seconds: 0,
        }
    }
}

impl Limits {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        let mut rule = |holds: bool, text: &str| {
            if !holds {
                wrong.push(format!("limits.{text}"));
            }
        };
        rule((1..=1_000_000).contains(&self.connections), "connections: 1 to 1000000");
        let seconds = [self.idle_seconds, self.stall_seconds, self.request_seconds, self.body_idle_seconds];
        rule(seconds.iter().all(|s| (1..=86_400).contains(s)), "*_seconds: 1 to 86400");
        rule((4096..=1_048_576).contains(&self.header_bytes), "header_bytes: 4096 to 1048576");
        rule((16..=100).contains(&self.header_count), "header_count: 16 to 100");
        rule(self.body_bytes_per_second >= 1, "body_bytes_per_second: at least 1");
        rule(self.requests_per_second <= 1_000_000, "requests_per_second: 0 to 1000000");
        rule((1..=1_000_000).contains(&self.burst), "burst: 1 to 1000000");
    }

    /// What a listener allows. It reads twice the header's limit, so that a problem can say what is wrong.
    pub(super) fn serving(&self) -> serve::Settings {
        serve::Settings {
            connections: self.connections,
            idle: Duration::from_secs(self.idle_seconds),
            stall: Duration::from_secs(self.stall_seconds),
            head_max: self.header_bytes * 2,
        }
    }

    pub(super) fn edge(&self, cors: &Cors) -> handlers::EdgeSettings {
        handlers::EdgeSettings {
            header_bytes: self.header_bytes,
            header_count: self.header_count,
            request: Duration::from_secs(self.request_seconds),
            body_idle: Duration::from_secs(self.body_idle_seconds),
            body_rate: self.body_bytes_per_second,
            requests_per_second: self.requests_per_second,
            burst: self.burst,
            hsts_seconds: self.hsts_seconds,
            origins: cors.origins.iter().filter_map(|o| HeaderValue::from_str(o).ok()).collect(),
        }
    }
}

/// Which web pages may call the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Origins as a browser sends them, for example `https://register.example`; `*`: all. None by default.
    pub origins: Vec<String>,
}

impl Cors {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        let origin = |text: &String| {
            let url = reqwest::Url::parse(text).ok();
            url.is_some_and(|u| matches!(u.scheme(), "http" | "https") && u.origin().ascii_serialization() == *text)
        };
        let all = self.origins.as_slice() == ["*"];
        if !all && !self.origins.iter().all(origin) {
            wrong.push("cors.origins: scheme://host[:port] in lower case without a path, or only \"*\"".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        let wrong = |origin: &str| {
            let mut wrong = Vec::new();
            Cors { origins: vec![origin.to_owned()] }.check(&mut wrong);
            !wrong.is_empty()
        };
        assert!(!wrong("https://register.example") && !wrong("http://localhost:3000") && !wrong("*"));
        for bad in ["register.example", "https://register.example/", "https://Register.example", "null", ""] {
            assert!(wrong(bad), "{bad}");
        }
    }
}
