//! Values that many nodes have in common, such as versions and keys of labels: each in one allocation.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

/// Recent values, at most `LIMIT`: the nodes of one pool mostly have the same ones.
#[derive(Debug)]
pub struct Recent<T: ?Sized, const LIMIT: usize>(VecDeque<Arc<T>>);

impl<T: ?Sized, const LIMIT: usize> Default for Recent<T, LIMIT> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ?Sized, const LIMIT: usize> Recent<T, LIMIT> {
    /// No values.
    #[must_use]
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// The value that is the same, in its allocation, or the one that `make` returns.
    pub fn share(&mut self, is_same: impl Fn(&T) -> bool, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        if let Some(known) = self.0.iter().find(|known| is_same(known)) {
            return Arc::clone(known);
        }
        let new = make();
        self.0.truncate(LIMIT - 1);
        self.0.push_front(Arc::clone(&new));
        new
    }
}

/// Values that many objects have in common, of which there may be thousands.
#[derive(Debug)]
pub struct Common<T: ?Sized, const LIMIT: usize>(HashSet<Arc<T>>);

impl<T: ?Sized, const LIMIT: usize> Default for Common<T, LIMIT> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: ?Sized + Eq + Hash, const LIMIT: usize> Common<T, LIMIT> {
    /// The equal value that is known, or this one. Values that nothing else holds are forgotten from time to time.
    pub fn share(&mut self, value: &T, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        if let Some(known) = self.0.get(value) {
            return Arc::clone(known);
        }
        if self.0.len() >= LIMIT {
            self.0.retain(|known| Arc::strong_count(known) > 1);
        }
        let new = make();
        if self.0.len() < LIMIT {
            self.0.insert(Arc::clone(&new));
        }
        new
    }
}

thread_local! {
    static TEXTS: RefCell<Recent<str, 64>> = const { RefCell::new(Recent::new()) };
}

/// The text, in the allocation of an equal recent one. Not for texts that differ from node to node.
#[must_use]
pub fn shared(text: &str) -> Arc<str> {
    TEXTS.with_borrow_mut(|texts| texts.share(|known| known == text, || text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_in_one_allocation() {
        let first = shared("rendered-worker-1");
        assert!(Arc::ptr_eq(&first, &shared("rendered-worker-1")));
        assert!(!Arc::ptr_eq(&first, &shared("rendered-worker-2")));
    }

    #[test]
    fn common_values_are_bounded_and_forgotten_when_nothing_holds_them() {
        let mut common = Common::<str, 2>::default();
        let mut share = |text: &str| common.share(text, || text.into());
        let (first, second) = (share("a"), share("b"));
        assert!(Arc::ptr_eq(&first, &share("a")));
        let third = share("c");
        assert!(!Arc::ptr_eq(&third, &share("c")), "both are held");
        drop(second);
        let third = share("c");
        assert!(Arc::ptr_eq(&third, &share("c")));
        assert!(Arc::ptr_eq(&first, &share("a")));
        assert_eq!(common.0.len(), 2);
    }

    #[test]
    fn a_bounded_number_of_values_is_remembered_and_the_oldest_is_forgotten() {
        let mut recent = Recent::<str, 2>::new();
        let mut share = |text: &str| recent.share(|known| known == text, || text.into());
        let first = share("a");
        let second = share("b");
        assert!(Arc::ptr_eq(&first, &share("a")));
        let _ = share("c");
        assert!(Arc::ptr_eq(&second, &share("b")));
        let again = share("a");
        assert_eq!(again, first);
        assert!(!Arc::ptr_eq(&again, &first));
        assert_eq!(recent.0.len(), 2);
    }
}
