//! The lanes: one per configured destination, started and stopped as the configuration changes.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::lane::Lane;
use super::{Context, Destination, Stop};

/// The destinations of the configuration, as it is now.
pub type Destinations = watch::Receiver<Vec<Arc<Destination>>>;

struct Running {
    config: watch::Sender<Arc<Destination>>,
    stop: CancellationToken,
}

/// Runs a lane per destination until stopped. A destination that changes keeps its lane; one that is gone finishes what is
/// open. Ends early only if a lane ends by itself, which only a panic does.
pub(super) async fn run(context: Context, mut destinations: Destinations, stop: Stop) {
    let mut running: HashMap<String, Running> = HashMap::new();
    let mut lanes = JoinSet::new();
    loop {
        let wanted = destinations.borrow_and_update().clone();
        adjust(&context, &wanted, &mut running, &mut lanes, &stop);
        let changed = loop {
            tokio::select! {
                () = stop.soft.cancelled() => break false,
                Ok(()) = destinations.changed() => break true,
                Some(ended) = lanes.join_next() => match ended {
                    // Told to: its destination is gone, or was gone for a moment and has a new lane.
                    Ok(told) if told.is_cancelled() => {}
                    Ok(_) | Err(_) => break false,
                },
            }
        };
        if !changed {
            break;
        }
    }
    if stop.soft.is_cancelled() {
        while lanes.join_next().await.is_some() {}
    }
}

fn adjust(
    context: &Context,
    wanted: &[Arc<Destination>],
    running: &mut HashMap<String, Running>,
    lanes: &mut JoinSet<CancellationToken>,
    stop: &Stop,
) {
    running.retain(|name, lane| {
        let stays = wanted.iter().any(|d| d.definition.name == *name);
        if !stays {
            tracing::info!(destination = %name, "a destination is gone; its lane ends");
            lane.stop.cancel();
        }
        stays
    });
    for destination in wanted {
        let name = &destination.definition.name;
        if let Some(lane) = running.get(name) {
            lane.config.send_replace(Arc::clone(destination));
            continue;
        }
        let config = watch::Sender::new(Arc::clone(destination));
        let soft = stop.soft.child_token();
        let lane = Lane::new(context.clone(), config.subscribe());
        let (its_stop, told) = (Stop { soft: soft.clone(), hard: stop.hard.clone() }, soft.clone());
        lanes.spawn(async move {
            lane.run(its_stop).await;
            told
        });
        running.insert(name.clone(), Running { config, stop: soft });
    }
}
