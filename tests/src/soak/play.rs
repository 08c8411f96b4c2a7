//! Playing a seed: orders, the story in batches under misfortune, and the watchdog when it is told.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use faults::{Plan, Service};
use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::sleep;
use uuid::Uuid;

use super::CallsMade;
use super::function::Ended;
use super::misfortune::Misfortune;
use super::queue::{self, Counts, Queue};
use super::rest::Api;
use super::story::{Cast, Order, Registration, Story, dice};
use super::world::{Exposed, World};

/// Batches after which faults end, whatever the plan says: what then still fails, fails for good.
const ENOUGH: usize = 400;

/// Who is there, what was ordered, and what is said.
pub(super) struct Played {
    pub(super) cast: Cast,
    pub(super) orders: Vec<Order>,
    pub(super) commands: Vec<Uuid>,
    pub(super) story: Story,
}

/// Registers who is registered first, and gives the commands.
pub(super) async fn prepare(world: &mut World, seed: u64, name: &str) -> Result<Played> {
    let cast = Cast::of(seed, name);
    register(&mut world.api, &cast, Registration::Before).await?;
    let orders = cast.orders();
    let mut commands = Vec::with_capacity(orders.len());
    for order in &orders {
        let path = format!("/api/devices/{}/commands", cast.devices[order.device].id);
        let body = json!({"cmd": order.cmd, "params": order.params});
        let answer = world.api.post(&path, &body).await?;
        commands.push(answer["cmd_id"].as_str().context("a command without an id")?.parse()?);
    }
    let story = cast.story(&orders, &commands);
    Ok(Played { cast, orders, commands, story })
}

async fn register(api: &mut Api, cast: &Cast, when: Registration) -> Result<()> {
    for device in cast.devices.iter().filter(|device| device.registration == when) {
        let body = json!({"device_id": device.id, "device_name": device.id});
        api.post("/api/devices", &body).await?;
    }
    Ok(())
}

/// Where processes work on one queue.
pub(super) struct Stage<'a> {
    story: &'a Story,
    queue: Mutex<Queue<'a>>,
    /// A batch has ended: what waited for it may be ready.
    changed: Notify,
    deaths: Mutex<usize>,
    /// The number of the first call of each invocation of ingest, among all of its process.
    first_calls: Mutex<BTreeSet<usize>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Stage<'a> {
    pub(super) fn new(story: &'a Story, misfortune: &Misfortune, seed: u64) -> Self {
        Self {
            story,
            queue: Mutex::new(Queue::new(story, misfortune, dice(seed, 5))),
            changed: Notify::new(),
            deaths: Mutex::default(),
            first_calls: Mutex::default(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.queue().counts
    }

    /// Processes that were killed.
    pub(super) fn deaths(&self) -> usize {
        *lock(&self.deaths)
    }

    /// Delivers everything but the stragglers, while what goes wrong goes wrong, and then what is left.
    /// The calls that the first process made under its plan.
    pub(super) async fn tell(
        &self,
        world: &mut World,
        cast: &Cast,
        misfortune: &Misfortune,
    ) -> Result<CallsMade> {
        let before = world.ingest[0].proxy.tally();
        for (ingest, plan) in world.ingest.iter().zip(&misfortune.plans) {
            ingest.proxy.set_plan(plan.clone());
        }
        let working = misfortune.plans.len();
        let meanwhile = register(&mut world.api, cast, Registration::Meanwhile);
        let work = world.ingest.iter_mut().take(working).map(|ingest| self.work(ingest, ENOUGH));
        tokio::try_join!(try_join_all(work), meanwhile)?;
        // What is late arrives before it is over.
        for ingest in &mut world.ingest {
            ingest.proxy.settled().await;
            ingest.proxy.set_plan(Plan::none());
        }
        let after = world.ingest[0].proxy.tally();
        let calls = CallsMade::between(&before, &after, &lock(&self.first_calls));
        self.queue().calm_down();
        self.finish(world, working).await?;
        register(&mut world.api, cast, Registration::Afterwards).await?;
        Ok(calls)
    }

    /// The watchdog looks, dies perhaps, and looks again, while the queue delivers once more what is done;
    /// then stragglers come. The calls that the watchdog made before they came.
    pub(super) async fn watch(
        &self,
        world: &mut World,
        misfortune: &Misfortune,
    ) -> Result<CallsMade> {
        let working = misfortune.plans.len();
        self.queue().replay(0.2);
        let World { ingest, watchdog, .. } = world;
        let before = watchdog.proxy.tally();
        let looks = async {
            let mut is_early = false;
            for plan in &misfortune.watchdog {
                let asked = asked_for_the_queue(watchdog);
                watchdog.proxy.set_plan(plan.clone());
                // What becomes of it does not matter: there will be another one.
                if let Ended::Died = watchdog.function.invoke(&json!({})).await? {
                    *lock(&self.deaths) += 1;
                }
                watchdog.proxy.settled().await;
                is_early |= asked_for_the_queue(watchdog) > asked + 1;
            }
            watchdog.proxy.set_plan(Plan::none());
            if is_early {
                until_the_next_minute().await;
            }
            look(watchdog).await
        };
        let work = ingest.iter_mut().take(working).map(|ingest| self.work(ingest, usize::MAX));
        tokio::try_join!(try_join_all(work), looks)?;
        let calls = CallsMade::between(&before, &watchdog.proxy.tally(), &BTreeSet::new());
        {
            let mut queue = self.queue();
            queue.let_everybody_come();
            queue.replay(0.2);
            // What a watchdog that died has left to do is done a minute later by the next one, or at once
            // by whoever handles anything of the device.
            queue.replay_of_each_device();
        }
        self.finish(world, working).await?;
        // What came last is nothing that the next trial's watchdog should find.
        look(&mut world.watchdog).await?;
        Ok(calls)
    }

    /// Works until everything is done; nothing goes wrong any more.
    async fn finish(&self, world: &mut World, working: usize) -> Result<()> {
        // A message may fail because others won its device's lock, but not for ever.
        let most = self.counts().batches + 20 + 10 * self.story.receipts.len();
        let work = world.ingest.iter_mut().take(working).map(|ingest| self.work(ingest, most));
        try_join_all(work).await?;
        ensure!(
            self.queue().is_empty(),
            "without faults, messages still fail after {most} batches"
        );
        Ok(())
    }

    fn queue(&self) -> MutexGuard<'_, Queue<'a>> {
        lock(&self.queue)
    }

    /// Works until the queue is empty or so many batches were taken in all.
    async fn work(&self, ingest: &mut Exposed, most: usize) -> Result<()> {
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

    async fn deliver(&self, ingest: &mut Exposed, batch: &[usize]) -> Result<HashSet<usize>> {
        let event = queue::event(self.story, batch);
        lock(&self.first_calls).insert(ingest.proxy.tally().total_calls() + 1);
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

/// How often the watchdog has asked how long the queue is. One that hears no answer, and so does not know whether ingest is
/// behind, leaves who is silent and what is missing to the next minute's.
fn asked_for_the_queue(watchdog: &Exposed) -> usize {
    let calls = watchdog.proxy.tally().calls;
    calls.iter().filter(|(call, _)| call.service == Service::Sqs).map(|(_, times)| times).sum()
}

async fn until_the_next_minute() {
    let over = Timestamp::now().as_second().rem_euclid(60).unsigned_abs();
    sleep(Duration::from_secs(60 - over)).await;
}

/// The watchdog looks, and nothing goes wrong.
async fn look(watchdog: &mut Exposed) -> Result<()> {
    match watchdog.function.invoke(&json!({})).await? {
        Ended::Answered(_) => Ok(()),
        ended => bail!("without a fault the watchdog has {ended:?}"),
    }
}
