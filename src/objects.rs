//! Where the bytes of attachments are kept: in PostgreSQL, or in an object store (a folder, or S3 and what speaks it).
//!
//! The rows say which bytes are an attachment's; this only writes, reads and deletes objects. An object is seen once it is
//! whole. What breaks off leaves nothing in a folder; in S3 it leaves parts that a lifecycle rule of the bucket takes away.
//! Credentials come from the environment (`AWS_…`), never from the configuration.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload};

/// Bytes that are read at a time.
const PIECE: u64 = 1024 * 1024;

/// The smallest part that S3 takes, but for the last one.
const S3_PART: usize = 5 * 1024 * 1024;

/// Why a store cannot be used as configured. Says nothing of credentials.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is none of those that are known.
    #[error("\"postgres\", \"file:///folder\" or \"s3://bucket/prefix\"")]
    Unknown,
    /// The folder cannot be made.
    #[error("the folder cannot be made")]
    Folder(#[source] std::io::Error),
    /// The folder or the bucket cannot be used.
    #[error("it cannot be used")]
    Refused(#[source] object_store::Error),
}

/// Where new bytes go.
#[derive(Clone, Debug)]
pub enum Store {
    /// Into the database.
    Postgres,
    /// Into an object store.
    Objects(Objects),
}

impl Store {
    /// Opens what the configuration names. Nothing is sent to S3 yet.
    pub fn open(place: &str) -> Result<Self, OpenError> {
        if place == "postgres" {
            return Ok(Self::Postgres);
        }
        let (store, prefix, part): (Arc<dyn ObjectStore>, _, _) = if let Some(folder) = place.strip_prefix("file://") {
            let folder = PathBuf::from(folder);
            if !folder.is_absolute() {
                return Err(OpenError::Unknown);
            }
            std::fs::create_dir_all(&folder).map_err(OpenError::Folder)?;
            let store = LocalFileSystem::new_with_prefix(folder).map_err(OpenError::Refused)?;
            (Arc::new(store.with_fsync(true)), "", 1)
        } else {
            let rest = place.strip_prefix("s3://").ok_or(OpenError::Unknown)?;
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
            (Arc::new(builder.build().map_err(OpenError::Refused)?), prefix, S3_PART)
        };
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Self::Objects(Objects { store, place: place.to_owned(), prefix, part }))
    }

    /// The store that a place names, if it is this one.
    pub fn at(&self, place: &str) -> Option<&Objects> {
        match self {
            Self::Objects(objects) if objects.place == place => Some(objects),
            Self::Objects(_) | Self::Postgres => None,
        }
    }
}

/// An object store.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    place: String,
    prefix: String,
    part: usize,
}

impl Objects {
    /// Its name in rows: what the configuration calls it.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The path of an object: by digest, and by copy, so that no copy is ever written over or deleted for another.
    pub fn path(&self, sha256: &str, copy: &str) -> String {
        let shard = sha256.get(..2).unwrap_or_default();
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}{slash}{shard}/{sha256}/{copy}", self.prefix)
    }

    /// Begins to write an object.
    pub async fn write(&self, path: &str) -> object_store::Result<Writing> {
        let upload = self.store.put_multipart(&Path::from(path)).await?;
        Ok(Writing { upload, part: self.part, waiting: Vec::new(), size: 0 })
    }

    /// Some of the bytes of a range, from its beginning: at least one.
    pub async fn read(&self, path: &str, range: Range<u64>) -> object_store::Result<Vec<u8>> {
        let range = range.start..range.end.min(range.start + PIECE);
        Ok(self.store.get_range(&Path::from(path), range).await?.into())
    }

    /// Deletes an object; one that is not there is fine.
    pub async fn delete(&self, path: &str) -> object_store::Result<()> {
        match self.store.delete(&Path::from(path)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            done => done,
        }
    }
}

/// An object that is being written, a part at a time.
#[derive(Debug)]
pub struct Writing {
    upload: Box<dyn MultipartUpload>,
    part: usize,
    waiting: Vec<axum::body::Bytes>,
    size: usize,
}

impl Writing {
    /// Adds bytes.
    pub async fn add(&mut self, bytes: axum::body::Bytes) -> object_store::Result<()> {
        self.size += bytes.len();
        self.waiting.push(bytes);
        if self.size >= self.part { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> object_store::Result<()> {
        self.size = 0;
        let part: PutPayload = std::mem::take(&mut self.waiting).into_iter().collect();
        self.upload.put_part(part).await
    }

    /// Makes it an object.
    pub async fn finish(mut self) -> object_store::Result<()> {
        if !self.waiting.is_empty() {
            self.flush().await?;
        }
        self.upload.complete().await.map(drop)
    }

    /// Gives it up.
    pub async fn abort(mut self) -> object_store::Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_one_of_three() {
        assert!(matches!(Store::open("postgres"), Ok(Store::Postgres)));
        for wrong in ["", "mysql", "file://relative", "gs://bucket", "/folder"] {
            assert!(matches!(Store::open(wrong), Err(OpenError::Unknown)), "{wrong}");
        }
    }
}
