//! The job of every contestant: JSON of 1 kB, another one each time.

use awa::JobArgs;
use serde::{Deserialize, Serialize};

/// The length of its JSON.
const BYTES: usize = 1024;

/// A job. Its number is what a pickup is recognised by.
#[derive(Clone, Debug, Serialize, Deserialize, JobArgs)]
pub(crate) struct Job {
    pub(crate) id: u64,
    topic: String,
    text: String,
}

impl Job {
    pub(crate) fn new(id: u64) -> Self {
        let topic = "birth.declared".to_owned();
        let mut job = Self { id, topic, text: String::new() };
        job.text = letters(id, BYTES - job.json().len());
        job
    }

    pub(crate) fn json(&self) -> String {
        // Two strings and a number: there is nothing that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// So many letters that no compression makes much of (`SplitMix64`).
fn letters(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0xD129_0E3B_97F4_A7C5);
    let mut text = String::with_capacity(length);
    while text.len() < length {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits ^= bits >> 31;
        for _ in 0..(length - text.len()).min(12) {
            text.push(char::from(b'a' + (bits & 15) as u8));
            bits >>= 5;
        }
    }
    text
}
