//! The active rules, and what they decide.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::request_info::RequestInfo;
use super::rule::{Fault, Rule, Stage};

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
    hits: u64,
    /// How many requests it has matched, by verb and resource.
    matched: HashMap<(&'static str, String), u64>,
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
            hits: 0,
            matched: HashMap::new(),
        });
        id
    }

    pub(super) fn remove(&self, id: RuleId) -> u64 {
        let hits = self.hits(id);
        self.lock().active.retain(|active| active.id != id);
        hits
    }

    pub(super) fn hits(&self, id: RuleId) -> u64 {
        let state = self.lock();
        let mut active = state.active.iter();
        active
            .find(|active| active.id == id)
            .map_or(0, |active| active.hits)
    }

    pub(super) fn clear(&self) {
        self.lock().active.clear();
    }

    /// The fault that hits the request at this stage, if any.
    pub(super) fn fault(&self, request: &RequestInfo, stage: Stage) -> Option<Fault> {
        let now = Instant::now();
        let mut rules = self.lock();
        let mut active = rules.active.iter_mut();
        active.find_map(|active| active.fault(self.seed, request, stage, now))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave it inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Active {
    fn fault(
        &mut self,
        seed: u64,
        request: &RequestInfo,
        stage: Stage,
        now: Instant,
    ) -> Option<Fault> {
        let rule = &self.rule;
        let is_over = self.until.is_some_and(|until| until <= now)
            || rule.times.is_some_and(|times| times <= self.hits);
        if is_over || !rule.fault.applies_at(stage) || !rule.matches(request) {
            return None;
        }
        let key = (request.verb, request.resource.clone());
        let count = self.matched.entry(key).or_default();
        *count += 1;
        let mut hasher = DefaultHasher::new();
        (seed, self.id.0, request.verb, &request.resource, *count).hash(&mut hasher);
        let random = fastrand::Rng::with_seed(hasher.finish()).f64();
        (random < rule.chance).then(|| {
            self.hits += 1;
            rule.fault.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn request(verb: &'static str, resource: &str) -> RequestInfo {
        RequestInfo {
            verb,
            resource: resource.to_owned(),
            subresource: String::new(),
            name: String::new(),
        }
    }

    fn hits(rules: &Rules, resource: &str, count: usize) -> Vec<bool> {
        let is_hit = |_| {
            let fault = rules.fault(&request("list", resource), Stage::Request);
            fault.is_some()
        };
        (0..count).map(is_hit).collect()
    }

    #[test]
    fn one_seed_decides_the_same_whatever_unrelated_requests_come_between() {
        let (one, two) = (Rules::new(7), Rules::new(7));
        for rules in [&one, &two] {
            rules.add(Rule::new(Fault::Cut).chance(0.5));
        }
        let alone = hits(&one, "nodes", 200);
        let between: Vec<bool> = (0..200)
            .map(|_| {
                hits(&two, "pods", 3);
                hits(&two, "nodes", 1)[0]
            })
            .collect();
        assert_eq!(alone, between);
        let count = alone.iter().filter(|is_hit| **is_hit).count();
        assert!((60..140).contains(&count), "{count} of 200");
        let other = Rules::new(8);
        other.add(Rule::new(Fault::Cut).chance(0.5));
        assert_ne!(hits(&other, "nodes", 200), alone);
    }

    #[test]
    fn a_rule_hits_only_what_it_matches_within_its_count_and_its_time() {
        let rules = Rules::new(1);
        let id = rules.add(Rule::new(Fault::Cut).resource("nodes").times(2));
        assert_eq!(hits(&rules, "pods", 2), [false, false]);
        assert_eq!(hits(&rules, "nodes", 3), [true, true, false]);
        assert_eq!((rules.remove(id), rules.remove(id)), (2, 0));
        rules.add(Rule::new(Fault::Cut).lasts(Duration::ZERO));
        assert_eq!(hits(&rules, "nodes", 1), [false]);
        rules.add(Rule::new(Fault::Drop));
        let event = rules.fault(&request("watch", "nodes"), Stage::Event);
        assert_eq!(
            (hits(&rules, "nodes", 1), event),
            (vec![false], Some(Fault::Drop))
        );
    }
}
