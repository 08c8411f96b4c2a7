//! Soak: seeds of trouble, each played against the real `ingest` and held against a model.
//!
//! A seed decides who says what ([`story`]) and what goes wrong meanwhile ([`misfortune`]). It is played
//! ([`play`]) in a [`world`]: an endpoint with the stores in it, and the functions as processes that are
//! given their events directly ([`function`], [`runtime`]), so that no broker and no queue cost time, and
//! the [`queue`] may behave as badly as SQS is allowed to. Each process reaches the endpoint through a
//! proxy of its own ([`faults`]), which loses, delays and refuses calls and kills the process. In the end,
//! when nothing goes wrong any more and everything is delivered, what the REST API answers must be what
//! the [`model`] says ([`verify`]).

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

use std::fmt;

use anyhow::Result;
use faults::{Calls, Fault, Plan, Rule, Times};

use self::misfortune::Misfortune;
use self::summary::Summary;
use self::verify::Fleet;
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
    /// One process, the largest batches, and a plan.
    ByPlan(Plan),
}

/// What a trial came to.
#[derive(Debug)]
pub struct Report {
    /// What is not as it must be, one line each.
    pub differences: Vec<String>,
    /// In numbers.
    pub summary: Summary,
    /// How many calls the processes made while things could go wrong.
    pub calls: usize,
}

impl Trial {
    /// Everything as the seed decides, with so many processes of ingest at most.
    #[must_use]
    pub fn of(seed: u64, processes: usize) -> Self {
        let misfortune = Misfortune::of(seed, processes);
        Self { seed, name: format!("soak{seed}"), misfortune, how: How::BySeed }
    }

    /// The seed's story under a plan, in batches as large as can be, so that the calls are the same each
    /// time, or nearly.
    #[must_use]
    pub fn with_plan(seed: u64, plan: Plan) -> Self {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name = format!("soak{seed}-{plan}").chars().take(80).map(letter).collect();
        Self { seed, name, misfortune: Misfortune::planned(plan.clone()), how: How::ByPlan(plan) }
    }

    /// The seed's story under one fault at one call.
    #[must_use]
    pub fn at_call(seed: u64, nth: usize, fault: Fault, times: usize) -> Self {
        let rule = Rule { calls: Calls::Any, nth, times: Times::Count(times), fault };
        Self::with_plan(seed, Plan::from_iter([rule]))
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
        for ingest in &mut world.ingest {
            ingest.function.end().await;
        }
        let before = Fleet::read(&mut world.api).await?;
        let tallies: Vec<_> = world.ingest.iter().map(|ingest| ingest.proxy.tally()).collect();
        let played = play::play(world, self.seed, &self.name, &self.misfortune).await?;
        let found = verify::verify(world, &played, &before).await?;
        let mut summary = Summary::of(&played, &found.totals);
        for (ingest, before) in world.ingest.iter().zip(&tallies) {
            summary.add_faults(before, &ingest.proxy.tally());
        }
        Ok(Report { differences: found.differences, summary, calls: played.calls })
    }
}

/// How to play it again.
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "soak --seed {}", self.seed)?;
        match &self.how {
            How::BySeed => Ok(()),
            How::ByPlan(plan) => write!(f, " --plan '{plan}'"),
        }
    }
}
