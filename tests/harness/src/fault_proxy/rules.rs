//! The rules that hold now, and what they decide.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::asked::Asked;
use super::rule::{Fault, Moment, Rule};

/// A rule that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId(u64);

/// All rules of one proxy.
pub(super) struct Rules {
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    added: u64,
    active: Vec<Active>,
}

struct Active {
    id: RuleId,
    rule: Rule,
    until: Option<Instant>,
    struck: u64,
    /// How often it was asked whether it strikes, by verb and resource.
    asked: HashMap<(&'static str, String), u64>,
}

impl Rules {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            state: Mutex::default(),
        }
    }

    pub(super) fn add(&self, rule: Rule) -> RuleId {
        let mut state = self.lock();
        state.added += 1;
        let id = RuleId(state.added);
        state.active.push(Active {
            id,
            until: rule.lasts.map(|lasts| Instant::now() + lasts),
            rule,
            struck: 0,
            asked: HashMap::new(),
        });
        id
    }

    pub(super) fn remove(&self, id: RuleId) -> u64 {
        let struck = self.struck(id);
        self.lock().active.retain(|active| active.id != id);
        struck
    }

    pub(super) fn struck(&self, id: RuleId) -> u64 {
        let state = self.lock();
        let mut active = state.active.iter();
        active
            .find(|active| active.id == id)
            .map_or(0, |active| active.struck)
    }

    pub(super) fn clear(&self) {
        self.lock().active.clear();
    }

    /// The fault that strikes at this moment, if one does.
    pub(super) fn strike(&self, asked: &Asked, moment: Moment) -> Option<Fault> {
        let now = Instant::now();
        let mut state = self.lock();
        let mut active = state.active.iter_mut();
        active.find_map(|active| active.strike(self.seed, asked, moment, now))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Active {
    fn strike(&mut self, seed: u64, asked: &Asked, moment: Moment, now: Instant) -> Option<Fault> {
        let rule = &self.rule;
        let is_over = self.until.is_some_and(|until| until <= now)
            || rule.times.is_some_and(|times| times <= self.struck);
        if is_over || !rule.fault.strikes_at(moment) || !rule.is_about(asked) {
            return None;
        }
        let key = (asked.verb, asked.resource.clone());
        let count = self.asked.entry(key).or_default();
        *count += 1;
        let mut hasher = DefaultHasher::new();
        (seed, self.id.0, asked.verb, &asked.resource, *count).hash(&mut hasher);
        let random = fastrand::Rng::with_seed(hasher.finish()).f64();
        (random < rule.chance).then(|| {
            self.struck += 1;
            rule.fault.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asked(verb: &'static str, resource: &str) -> Asked {
        Asked {
            verb,
            resource: resource.to_owned(),
            subresource: String::new(),
            name: String::new(),
        }
    }

    fn strikes(rules: &Rules, resource: &str, count: usize) -> Vec<bool> {
        let strike = |_| {
            let fault = rules.strike(&asked("list", resource), Moment::Request);
            fault.is_some()
        };
        (0..count).map(strike).collect()
    }

    #[test]
    fn one_seed_decides_the_same_whatever_comes_between() {
        let (one, two) = (Rules::new(7), Rules::new(7));
        for rules in [&one, &two] {
            rules.add(Rule::new(Fault::Cut).chance(0.5));
        }
        let alone = strikes(&one, "nodes", 200);
        let between: Vec<bool> = (0..200)
            .map(|_| {
                strikes(&two, "pods", 3);
                strikes(&two, "nodes", 1)[0]
            })
            .collect();
        assert_eq!(alone, between);
        let struck = alone.iter().filter(|struck| **struck).count();
        assert!((60..140).contains(&struck), "{struck} of 200");
        let other = Rules::new(8);
        other.add(Rule::new(Fault::Cut).chance(0.5));
        assert_ne!(strikes(&other, "nodes", 200), alone);
    }

    #[test]
    fn a_rule_strikes_what_it_is_about_so_often_and_so_long() {
        let rules = Rules::new(1);
        let id = rules.add(Rule::new(Fault::Cut).resource("nodes").times(2));
        assert_eq!(strikes(&rules, "pods", 2), [false, false]);
        assert_eq!(strikes(&rules, "nodes", 3), [true, true, false]);
        assert_eq!((rules.remove(id), rules.remove(id)), (2, 0));
        rules.add(Rule::new(Fault::Cut).lasts(Duration::ZERO));
        assert_eq!(strikes(&rules, "nodes", 1), [false]);
        rules.add(Rule::new(Fault::Drop));
        let event = rules.strike(&asked("watch", "nodes"), Moment::Event);
        assert_eq!(
            (strikes(&rules, "nodes", 1), event),
            (vec![false], Some(Fault::Drop))
        );
    }
}
