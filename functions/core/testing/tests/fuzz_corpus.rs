//! Runs the checks of the fuzz targets without a fuzzer, over each file of the corpus and over
//! mutations of those files.
//!
//! The mutations are the same on every run. `PROPTEST_CASES` sets their number, and `make fuzz`
//! searches further.

#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

#[path = "../../http/fuzz/entry/cursor.rs"]
mod cursor;
#[path = "../../domain/fuzz/entry/message.rs"]
mod message;
#[path = "../../http/fuzz/entry/range.rs"]
mod range;
#[path = "../../domain/fuzz/entry/time.rs"]
mod time;

use std::fmt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngSeed, TestRunner};

/// Tests of the corpus of a fuzz target and of its mutations.
macro_rules! target {
    ($layer:literal, $target:ident) => {
        mod $target {
            #[test]
            fn corpus_satisfies_the_invariants() {
                for (path, input) in crate::corpus($layer, stringify!($target)) {
                    eprintln!("{}", path.display()); // shown only on failure
                    crate::$target::run(&input);
                }
            }

            #[test]
            fn mutated_corpus_satisfies_the_invariants() {
                crate::mutate($layer, stringify!($target), crate::$target::run);
            }
        }
    };
}

mod targets {
    target!("http", cursor);
    target!("domain", message);
    target!("http", range);
    target!("domain", time);
}

/// Minimum number of mutations for each target; they take about a second.
const MUTATIONS: u32 = 4_096;

fn corpus(layer: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(layer)
        .join("fuzz/corpus")
        .join(target);
    let entries = std::fs::read_dir(&directory).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn mutate(layer: &str, target: &str, run: fn(&[u8])) {
    let corpus: Vec<_> = corpus(layer, target).into_iter().map(|(_, input)| input).collect();
    let files = corpus.len();
    let mutations = prop::collection::vec(any_mutation(), 1..8);
    let inputs = (0..files, mutations).prop_map(move |(file, mutations)| {
        let begin = corpus[file].clone();
        Input(mutations.iter().fold(begin, |input, mutation| mutation.apply(input, &corpus)))
    });
    let config = ProptestConfig {
        cases: ProptestConfig::default().cases.max(MUTATIONS),
        rng_seed: RngSeed::Fixed(20_260_301),
        failure_persistence: None, // a file of the corpus does that
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(config).run(&inputs, |input| {
        run(&input.0);
        Ok(())
    });
    if let Err(found) = result {
        panic!("{found}\nOnce it is understood, put the input into fuzz/corpus/{target}.");
    }
}

struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

#[derive(Debug, Clone)]
enum Mutation {
    /// Invert bits of a byte.
    Flip(Index, u8),
    /// Insert a byte with a meaning in JSON, times or URIs.
    Insert(Index, u8),
    /// Remove everything from a position.
    Truncate(Index),
    /// Remove a range.
    Cut(Index, Index),
    /// Repeat a range.
    Repeat(Index, Index),
    /// Continue with a part of another file.
    Splice(Index, Index, Index),
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let special_bytes = prop::sample::select(b"\0\n\x1e\"\\%&=+-./0129:TZ[]{}e\xff".as_slice());
    prop_oneof![
        (at(), 1..=u8::MAX).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        (at(), special_bytes).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        at().prop_map(Mutation::Truncate),
        (at(), at()).prop_map(|(from, to)| Mutation::Cut(from, to)),
        (at(), at()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
        (at(), at(), at()).prop_map(|(at, file, from)| Mutation::Splice(at, file, from)),
    ]
}

impl Mutation {
    fn apply(&self, mut input: Vec<u8>, corpus: &[Vec<u8>]) -> Vec<u8> {
        let place = |index: &Index, input: &[u8]| index.index(input.len() + 1);
        let between = |from: &Index, to: &Index, input: &[u8]| {
            let (from, to) = (place(from, input), place(to, input));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Flip(at, bits) => {
                if !input.is_empty() {
                    let at = at.index(input.len());
                    input[at] ^= bits;
                }
            }
            Self::Insert(at, byte) => input.insert(place(at, &input), *byte),
            Self::Truncate(at) => input.truncate(place(at, &input)),
            Self::Cut(from, to) => drop(input.drain(between(from, to, &input))),
            Self::Repeat(from, to) => {
                let again = between(from, to, &input);
                let (end, again) = (again.end, input[again].to_vec());
                input.splice(end..end, again);
            }
            Self::Splice(at, file, from) => {
                let other = file.get(corpus);
                input.truncate(place(at, &input));
                input.extend_from_slice(&other[place(from, other)..]);
            }
        }
        input
    }
}
