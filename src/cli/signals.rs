//! What a running process is told by signals.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Two signals: the first asks to stop, the second to stop now.
pub(super) struct Told {
    pub(super) stop: CancellationToken,
    pub(super) now: CancellationToken,
}

pub(super) fn listen_to_signals() -> std::io::Result<Told> {
    let told = Told { stop: CancellationToken::new(), now: CancellationToken::new() };
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, now) = (told.stop.clone(), told.now.clone());
    tokio::spawn(async move {
        for next in [stop, now] {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            next.cancel();
        }
    });
    Ok(told)
}
