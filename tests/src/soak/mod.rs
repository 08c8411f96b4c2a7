//! Soak: seeds of trouble, each played against the real `ingest` and held against a model.
//!
//! A seed decides who says what ([`story`]) and what goes wrong meanwhile ([`misfortune`]). It is played
//! ([`play`]) in a [`world`]: an endpoint with the stores in it, and the functions as processes that are
//! given their events directly ([`function`], [`runtime`]), so that no broker and no queue cost time, and
//! the [`queue`] may behave as badly as SQS is allowed to. Each process reaches the endpoint through a
//! proxy of its own ([`faults`]), which loses, delays and refuses calls and kills the process. When nothing
//! goes wrong any more and everything is delivered, what the REST API answers must be what the [`model`]
//! says ([`verify`]); then the watchdog looks for what did not come, and that comes after all.

pub mod campaign;
mod function;
mod misfortune;
mod model;
mod play;
mod queue;
mod rest;
mod runtime;
mod story;
pub mod summary;
mod verify;
pub mod world;

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Result;
use faults::{Calls, Fault, Moment, Plan, Rule, Tally, Times};

use self::misfortune::Misfortune;
use self::model::When;
use self::play::Stage;
use self::summary::Summary;
use self::verify::{Fleet, verify};
use self::world::World;

/// A seed, and how it is played.
#[derive(Debug)]
pub struct Trial {
    seed: u64,
    /// What the ids of its devices begin with: no two trials in a world have the same.
    name: String,
    misfortune: Misfortune,
    how: How,
}

#[derive(Debug)]
enum How {
    /// The seed decides.
    BySeed,
    /// One process, the largest batches, and plans for it and for a run of the watchdog.
    ByPlan(Plan, Option<Plan>),
}

/// Whose calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of the process that handles messages.
    Ingest,
    /// Those of one that looks for what did not come.
    Watchdog,
}

/// What a trial came to.
#[derive(Debug)]
pub struct Report {
    /// What is not as it must be, one line each.
    pub differences: Vec<String>,
    /// In numbers.
    pub summary: Summary,
    /// The calls of the first process of ingest while things could go wrong.
    pub ingest_calls: CallsMade,
    /// Those of the watchdog.
    pub watchdog_calls: CallsMade,
}

/// Calls of a process, numbered from 1.
#[derive(Clone, Debug)]
pub struct CallsMade {
    /// How many.
    pub count: usize,
    /// Those that may change something.
    writes: BTreeSet<usize>,
    /// The first ones of invocations.
    first: BTreeSet<usize>,
}

impl CallsMade {
    /// `first` are the numbers of the first calls of invocations in the later tally.
    fn between(before: &Tally, after: &Tally, first: &BTreeSet<usize>) -> Self {
        let earlier = before.total_calls();
        let later = |numbers: &BTreeSet<usize>| {
            numbers
                .iter()
                .filter(|number| **number > earlier)
                .map(|number| number - earlier)
                .collect()
        };
        let count = after.total_calls() - earlier;
        Self { count, writes: later(&after.writes), first: later(first) }
    }

    /// Whether to die at this moment of the `nth` call is like no other death. What a process leaves behind is what its
    /// calls have changed. So it dies before each call that may change something, and when the last one of an invocation
    /// is done, of which nobody hears then. At any other moment it leaves what it leaves at the next of these.
    #[must_use]
    pub fn is_a_death_of_its_own(&self, nth: usize, moment: Moment) -> bool {
        match moment {
            Moment::Before => self.writes.contains(&nth),
            Moment::After => nth == self.count || self.first.contains(&(nth + 1)),
        }
    }
}

impl Trial {
    /// Everything as the seed decides, with so many processes of ingest at most.
    #[must_use]
    pub fn of(seed: u64, processes: usize) -> Self {
        let misfortune = Misfortune::of(seed, processes);
        Self { seed, name: format!("soak{seed}"), misfortune, how: How::BySeed }
    }

    /// The seed's story under a plan for ingest, and one for a first run of the watchdog, in one process
    /// and in batches as large as can be, so that the calls are the same each time, or nearly.
    #[must_use]
    pub fn with_plans(seed: u64, ingest: Plan, watchdog: Option<Plan>) -> Self {
        let plans = watchdog.iter().fold(ingest.to_string(), |text, plan| format!("{text}-{plan}"));
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name = format!("soak{seed}-{plans}").chars().take(80).map(letter).collect();
        let misfortune = Misfortune::planned(ingest.clone(), watchdog.clone());
        Self { seed, name, misfortune, how: How::ByPlan(ingest, watchdog) }
    }

    /// The seed's story with a fault at one call, and so many after it.
    #[must_use]
    pub fn at_call(seed: u64, whose: Whose, nth: usize, fault: Fault, times: usize) -> Self {
        let rule = Rule { calls: Calls::Any, nth, times: Times::Count(times), fault };
        let plan = Plan::from_iter([rule]);
        match whose {
            Whose::Ingest => Self::with_plans(seed, plan, None),
            Whose::Watchdog => Self::with_plans(seed, Plan::none(), Some(plan)),
        }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What goes wrong, for a person.
    #[must_use]
    pub fn misfortune(&self) -> String {
        self.misfortune.to_string()
    }

    /// Plays it and compares.
    ///
    /// # Errors
    /// When it could not be played to its end, which is a failure of the trial as well.
    pub async fn play(&self, world: &mut World) -> Result<Report> {
        // New processes, so that a trial finds none that remembers another one.
        let mut tallies = Vec::new();
        for exposed in world.exposed() {
            exposed.function.end().await;
            tallies.push(exposed.proxy.tally());
        }
        let before = Fleet::read(&mut world.api).await?;
        let played = play::prepare(world, self.seed, &self.name).await?;
        let stage = Stage::new(&played.story, &self.misfortune, self.seed);

        let ingest_calls = stage.tell(world, &played.cast, &self.misfortune).await?;
        let found = verify(world, &played, &before, When::Told).await?;
        let mut differences: Vec<_> =
            found.differences.into_iter().map(|line| format!("told: {line}")).collect();
        let watchdog_calls = stage.watch(world, &self.misfortune).await?;
        let found = verify(world, &played, &before, When::Watched).await?;
        differences.extend(found.differences.into_iter().map(|line| format!("watched: {line}")));

        let mut summary = Summary::of(&played, &stage, &found.totals);
        for (exposed, before) in world.exposed().zip(&tallies) {
            summary.add_faults(before, &exposed.proxy.tally());
        }
        Ok(Report { differences, summary, ingest_calls, watchdog_calls })
    }
}

/// How to play it again.
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "soak --seed {}", self.seed)?;
        match &self.how {
            How::BySeed => Ok(()),
            How::ByPlan(ingest, None) => write!(f, " --plan '{ingest}'"),
            How::ByPlan(ingest, Some(watchdog)) => {
                write!(f, " --plan '{ingest}' --watchdog-plan '{watchdog}'")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use faults::{Call, Service};

    use super::*;

    #[test]
    fn a_process_dies_before_each_call_that_changes_something_and_at_the_end_of_each_invocation() {
        let tally = |count: usize, writes: &[usize]| Tally {
            calls: [(Call::new(Service::S3, "PUT"), count)].into(),
            writes: writes.iter().copied().collect(),
            ..Tally::default()
        };
        // Ten calls from the 101st on, of two invocations.
        let before = tally(100, &[50]);
        let after = tally(110, &[50, 102, 103, 107]);
        let calls = CallsMade::between(&before, &after, &[7, 101, 106].into());
        let deaths = |moment| -> Vec<_> {
            (1..=calls.count).filter(|nth| calls.is_a_death_of_its_own(*nth, moment)).collect()
        };
        assert_eq!((deaths(Moment::Before), deaths(Moment::After)), (vec![2, 3, 7], vec![5, 10]));
    }
}
