//! Bytes of attachments on their way between a client and the store, be it PostgreSQL or an object store.

use std::ops::Range;

use axum::body::{Body, Bytes};
use futures_util::stream;
use uuid::Uuid;

use super::AppState;
use super::problem::{Kind, Problem};
use crate::objects::{Store, Writing};
use crate::records::attachments::{self, Attachment, Blob, CHUNK, Content, hex};
use crate::records::uploads::{self, POSTGRES};

/// A blob that is being written.
pub(super) struct Writer<'a> {
    state: &'a AppState,
    pub(super) blob: Blob,
    /// The ordinal of the next chunk.
    next: i32,
    object: Option<Writing>,
}

impl<'a> Writer<'a> {
    /// Begins one, where the configuration says.
    pub(super) async fn begin(state: &'a AppState, digest: &[u8; 32]) -> Result<Self, Problem> {
        let id = Uuid::now_v7();
        let (place, path) = match &state.store {
            Store::Postgres => (POSTGRES.to_owned(), None),
            Store::Objects(objects) => (objects.place().to_owned(), Some(objects.path(&hex(digest), &id.to_string()))),
        };
        let blob = Blob { id, place, path };
        // The row comes first: whatever is written is known, and collected if it comes to nothing.
        uploads::begin(&mut *state.db.acquire().await?, &blob).await?;
        let object = match (state.store.at(&blob.place), &blob.path) {
            (Some(objects), Some(path)) => Some(objects.write(path).await.map_err(|e| failed(&e))?),
            _ => None,
        };
        Ok(Self { state, blob, next: 0, object })
    }

    /// Writes a chunk: [`CHUNK`] bytes but for the last one.
    pub(super) async fn add(&mut self, chunk: Bytes) -> Result<(), Problem> {
        let id = self.blob.id;
        let known = if let Some(object) = &mut self.object {
            object.add(chunk).await.map_err(|e| failed(&e))?;
            // Now and then is often enough.
            self.next % 64 != 0 || uploads::touch(&mut *self.state.db.acquire().await?, id).await?
        } else {
            uploads::append(&mut *self.state.db.acquire().await?, id, self.next, &chunk).await?
        };
        self.next += 1;
        if known { Ok(()) } else { Err(Problem::retry(Kind::Unavailable, 1)) }
    }

    /// Makes what was written whole.
    pub(super) async fn finish(&mut self) -> Result<(), Problem> {
        let Some(object) = self.object.take() else {
            return Ok(());
        };
        object.finish().await.map_err(|e| failed(&e))?;
        uploads::touch(&mut *self.state.db.acquire().await?, self.blob.id).await?;
        Ok(())
    }

    /// Takes it away. If this fails, or nobody waits for it any more, it goes later.
    pub(super) async fn abandon(&mut self) -> Result<(), Problem> {
        if let Some(object) = self.object.take() {
            object.abort().await.map_err(|e| failed(&e))?;
        }
        let mut conn = self.state.db.acquire().await?;
        uploads::abandon(&mut conn, self.blob.id).await?;
        if self.blob.path.is_none() {
            uploads::delete(&mut conn, self.blob.id).await?;
        }
        Ok(())
    }
}

/// Writes the bytes that came with a submission to the object store, before its transaction begins. PostgreSQL takes them
/// in the transaction.
pub(super) async fn write_inline(state: &AppState, caller: &str, list: &mut [Attachment]) -> Result<(), Problem> {
    if matches!(state.store, Store::Postgres) || list.is_empty() {
        return Ok(());
    }
    let digests: Vec<[u8; 32]> = list.iter().map(|a| a.sha256).collect();
    let mut conn = state.db.acquire().await?;
    let stored = attachments::stored(&mut conn, &digests, caller).await?;
    drop(conn);
    for a in list {
        if let Content::Bytes { bytes, blob, .. } = &mut a.content
            && !stored.iter().any(|s| s.sha256 == a.sha256)
        {
            let mut writer = Writer::begin(state, &a.sha256).await?;
            for chunk in bytes.chunks(CHUNK) {
                writer.add(Bytes::copy_from_slice(chunk)).await?;
            }
            writer.finish().await?;
            *blob = Some(writer.blob);
        }
    }
    Ok(())
}

/// The bytes of a range, as they are taken: no connection is held between two pieces.
pub(super) fn stream(state: AppState, blob: Blob, range: Range<u64>) -> Body {
    let end = range.end;
    Body::from_stream(stream::try_unfold(range.start, move |at| {
        let (state, blob) = (state.clone(), blob.clone());
        async move {
            if at >= end {
                return Ok(None);
            }
            let mut piece = piece(&state, &blob, at..end).await?;
            piece.truncate(usize::try_from(end - at).unwrap_or(usize::MAX));
            let next = at + u64::try_from(piece.len()).unwrap_or(u64::MAX);
            Ok::<_, std::io::Error>(Some((piece, next)))
        }
    }))
}

/// The next bytes of a range. None is an error: it ends the answer before it is whole.
async fn piece(state: &AppState, blob: &Blob, range: Range<u64>) -> std::io::Result<Vec<u8>> {
    let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
    if let Some(path) = &blob.path {
        let objects = state.store.at(&blob.place).ok_or_else(gone)?;
        return objects
            .read(path, range)
            .await
            .map_err(std::io::Error::other)
            .and_then(|bytes| if bytes.is_empty() { Err(gone()) } else { Ok(bytes) });
    }
    let chunk = u64::try_from(CHUNK).unwrap_or(u64::MAX);
    let ordinal = i32::try_from(range.start / chunk).unwrap_or(i32::MAX);
    let skipped = usize::try_from(range.start % chunk).unwrap_or_default();
    let mut conn = state.db.acquire().await.map_err(std::io::Error::other)?;
    let bytes = attachments::chunk(&mut conn, blob.id, ordinal).await.map_err(std::io::Error::other)?;
    let mut bytes = bytes.ok_or_else(gone)?;
    if skipped >= bytes.len() { Err(gone()) } else { Ok(bytes.split_off(skipped)) }
}

/// Whether bytes can be read here: not if they are in an object store that this process was not told of.
pub(super) fn reachable(state: &AppState, blob: &Blob) -> Result<(), Problem> {
    if blob.path.is_none() || state.store.at(&blob.place).is_some() {
        return Ok(());
    }
    tracing::error!(place = blob.place, "an attachment is in a store that is not configured");
    Err(Problem::new(Kind::Internal))
}

fn failed(error: &object_store::Error) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "the object store failed");
    Problem::retry(Kind::Unavailable, 2)
}
