//! Attachments that are uploaded by themselves.

mod collecting;
mod memory;
mod reading;
mod references;
mod s3;
mod stores;
mod uploading;

use aws_lc_rs::digest::{SHA256, digest};
use crvs_outbox::records::attachments::hex;
use reqwest::{RequestBuilder, Response};

use crate::harness::TestApp;

/// A PDF of so many bytes, as far as its first line goes; others for other seeds.
pub(super) fn pdf(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = format!("%PDF-1.7\n{seed}\n").into_bytes();
    bytes.reserve_exact(size);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

impl TestApp {
    /// An upload under a digest.
    pub(super) fn put(&self, token: &str, digest: &str, bytes: Vec<u8>) -> RequestBuilder {
        self.http.put(format!("{}/attachments/{digest}", self.base)).bearer_auth(token).body(bytes)
    }

    /// Uploads bytes under their digest.
    pub(super) async fn upload(&self, token: &str, bytes: &[u8]) -> Response {
        self.put(token, &sha256(bytes), bytes.to_vec()).send().await.unwrap()
    }

    /// How many attachments, blobs, chunks and remembered uploads there are.
    pub(super) async fn stored(&self) -> (i64, i64, i64, i64) {
        sqlx::query_as(
            "select (select count(*) from attachment), (select count(*) from attachment_blob),
                    (select count(*) from attachment_chunk), (select count(*) from attachment_upload)",
        )
        .fetch_one(&self.db)
        .await
        .unwrap()
    }
}
