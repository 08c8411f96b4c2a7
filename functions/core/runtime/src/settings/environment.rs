//! Typed access to environment variables, with a list of everything that is invalid.

use std::ops::RangeInclusive;

/// A source of variables and the problems found in it so far.
pub struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl<'a> Environment<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, problems: Vec::new() }
    }

    pub(super) fn into_problems(self) -> Vec<String> {
        self.problems
    }

    pub(super) fn report(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Returns the value of a variable. An empty value counts as not set, because CloudFormation
    /// cannot omit a variable.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    pub(super) fn required(&mut self, name: &str) -> String {
        self.get(name).unwrap_or_else(|| {
            self.report(format!("{name} is missing"));
            String::new()
        })
    }

    /// Returns the meaning of one of a few words.
    pub(super) fn one_of<T: Copy>(&mut self, name: &str, default: T, words: &[(&str, T)]) -> T {
        let Some(value) = self.get(name) else {
            return default;
        };
        let found = words.iter().find(|(word, _)| *word == value);
        found.map_or_else(
            || {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                let words = words.join(" or ");
                self.report(format!("{name} must be {words}, not {value:?}"));
                default
            },
            |(_, meaning)| *meaning,
        )
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        self.one_of(name, default, &[("true", true), ("false", false)])
    }

    pub(super) fn integer(&mut self, name: &str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let Some(value) = self.get(name) else {
            return default;
        };
        match value.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let (min, max) = range.into_inner();
                self.report(format!(
                    "{name} must be an integer from {min} to {max}, not {value:?}"
                ));
                default
            }
        }
    }
}
