//! Texts that many nodes have in common, such as versions and names of labels: in one allocation.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many texts are remembered: the nodes of one pool mostly have the same ones.
const RECENT: usize = 64;

thread_local! {
    static TEXTS: RefCell<VecDeque<Arc<str>>> = const { RefCell::new(VecDeque::new()) };
}

/// The text, in the allocation of an equal recent one. Not for texts that differ from node to node.
#[must_use]
pub fn shared(text: &str) -> Arc<str> {
    TEXTS.with_borrow_mut(|texts| {
        if let Some(known) = texts.iter().find(|known| ***known == *text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        texts.truncate(RECENT - 1);
        texts.push_front(Arc::clone(&new));
        new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_in_one_allocation_while_they_are_recent() {
        let first = shared("rendered-worker-1");
        assert!(Arc::ptr_eq(&first, &shared("rendered-worker-1")));
        assert!(!Arc::ptr_eq(&first, &shared("rendered-worker-2")));
        for number in 0..RECENT {
            let _ = shared(&number.to_string());
        }
        let later = shared("rendered-worker-1");
        assert_eq!(later, first);
        assert!(!Arc::ptr_eq(&first, &later));
    }

    #[test]
    fn a_bounded_number_of_texts_is_remembered() {
        for number in 0..3 * RECENT {
            let _ = shared(&number.to_string());
        }
        assert_eq!(TEXTS.with_borrow(VecDeque::len), RECENT);
    }
}
