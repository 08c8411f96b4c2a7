//! Playing a seed: orders, the story in batches under misfortune, and the end when everything is done.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use faults::Plan;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use super::function::Ended;
use super::misfortune::Misfortune;
use super::queue::{self, Counts, Queue};
use super::rest::Api;
use super::story::{Cast, Order, Registration, Story, dice};
use super::world::{Ingest, World};

/// A seed that was played to its end.
pub(super) struct Played {
    pub(super) cast: Cast,
    pub(super) orders: Vec<Order>,
    pub(super) commands: Vec<Uuid>,
    pub(super) story: Story,
    pub(super) counts: Counts,
    pub(super) deaths: usize,
    /// Calls while things could go wrong.
    pub(super) calls: usize,
}

/// Batches after which faults end, whatever the plan says: what then still fails, fails for good.
const ENOUGH: usize = 400;

/// How often a message may fail without a fault: others may win its device's lock.
const PATIENCE: usize = 20;

/// Plays a seed; its devices' ids begin with `name`.
pub(super) async fn play(
    world: &mut World,
    seed: u64,
    name: &str,
    misfortune: &Misfortune,
) -> Result<Played> {
    let cast = Cast::of(seed, name);
    for device in cast.devices.iter().filter(|d| d.registration == Registration::Before) {
        register(&mut world.api, &device.id).await?;
    }
    let orders = cast.orders();
    let mut commands = Vec::with_capacity(orders.len());
    for order in &orders {
        commands.push(give(&mut world.api, &cast.devices[order.device].id, order).await?);
    }
    let story = cast.story(&orders, &commands);

    let stage = Stage {
        story: &story,
        queue: Mutex::new(Queue::new(&story, misfortune, dice(seed, 5))),
        changed: Notify::new(),
        deaths: Mutex::default(),
    };
    let working = misfortune.plans.len();
    let before = calls(world);
    for (ingest, plan) in world.ingest.iter().zip(&misfortune.plans) {
        ingest.proxy.set_plan(plan.clone());
    }
    let meanwhile = async {
        for device in cast.devices.iter().filter(|d| d.registration == Registration::Meanwhile) {
            register(&mut world.api, &device.id).await?;
        }
        Ok(())
    };
    let work = try_join_all(world.ingest.iter_mut().take(working).map(|i| stage.work(i, ENOUGH)));
    tokio::try_join!(work, meanwhile)?;

    // What is late arrives before the last act; nothing goes wrong in that.
    for ingest in &mut world.ingest {
        ingest.proxy.settled().await;
        ingest.proxy.set_plan(Plan::none());
    }
    let calls = calls(world) - before;
    {
        let mut queue = stage.queue();
        queue.calm_down();
        queue.replay(0.2);
    }
    let most = stage.queue().counts.batches + PATIENCE + 10 * story.receipts.len();
    try_join_all(world.ingest.iter_mut().take(working).map(|i| stage.work(i, most))).await?;
    ensure!(stage.queue().is_empty(), "without faults, messages still fail after {most} batches");
    for device in cast.devices.iter().filter(|d| d.registration == Registration::Afterwards) {
        register(&mut world.api, &device.id).await?;
    }

    let counts = stage.queue().counts;
    let deaths = *lock(&stage.deaths);
    drop(stage);
    Ok(Played { cast, orders, commands, story, counts, deaths, calls })
}

/// How many calls the processes have made.
fn calls(world: &World) -> usize {
    world.ingest.iter().map(|ingest| ingest.proxy.tally().total_calls()).sum()
}

async fn register(api: &mut Api, id: &str) -> Result<()> {
    api.post("/api/devices", &json!({"device_id": id, "device_name": id})).await.map(drop)
}

async fn give(api: &mut Api, id: &str, order: &Order) -> Result<Uuid> {
    let body = json!({"cmd": order.cmd, "params": order.params});
    let answer = api.post(&format!("/api/devices/{id}/commands"), &body).await?;
    let cmd_id = answer["cmd_id"].as_str().context("a command without an id")?;
    Ok(cmd_id.parse()?)
}

/// Where processes work on one queue.
struct Stage<'a> {
    story: &'a Story,
    queue: Mutex<Queue<'a>>,
    /// A batch has ended: what waited for it may be ready.
    changed: Notify,
    deaths: Mutex<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Stage<'a> {
    fn queue(&self) -> MutexGuard<'_, Queue<'a>> {
        lock(&self.queue)
    }

    /// Works until the queue is empty or so many batches were taken in all.
    async fn work(&self, ingest: &mut Ingest, most: usize) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before looking, or a change in between would not be noticed.
            changed.as_mut().enable();
            let batch = {
                let mut queue = self.queue();
                if queue.is_empty() || queue.counts.batches >= most {
                    self.changed.notify_waiters();
                    return Ok(());
                }
                queue.take()
            };
            if batch.is_empty() {
                changed.await;
                continue;
            }
            let failed = self.deliver(ingest, &batch).await?;
            self.queue().put_back(&batch, &failed);
            self.changed.notify_waiters();
        }
    }

    async fn deliver(&self, ingest: &mut Ingest, batch: &[usize]) -> Result<HashSet<usize>> {
        let event: Value = queue::event(self.story, batch);
        Ok(match ingest.function.invoke(&event).await? {
            Ended::Answered(answer) => match queue::failed(&answer, batch) {
                Some(failed) => failed,
                None => bail!("ingest answers {answer}"),
            },
            Ended::Failed(error) => bail!("ingest fails with {error}"),
            Ended::Died => {
                *lock(&self.deaths) += 1;
                batch.iter().copied().collect()
            }
        })
    }
}
