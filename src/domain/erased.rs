//! Type-erased values: what a provider reads from a Node or from another object.

use std::any::Any;
use std::fmt::Debug;

/// A type-erased value that can be compared and downcast.
pub trait Erased: Any + Debug + Send + Sync {
    /// Whether the other value has the same type and is equal.
    fn is_same(&self, other: &dyn Erased) -> bool;
}

impl<T: Any + Debug + PartialEq + Send + Sync> Erased for T {
    fn is_same(&self, other: &dyn Erased) -> bool {
        downcast::<T>(other) == Some(self)
    }
}

/// The value, if it has that type.
#[must_use]
pub fn downcast<T: Any>(value: &dyn Erased) -> Option<&T> {
    (value as &dyn Any).downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_same_when_type_and_content_are() {
        let one: &dyn Erased = &1_u8;
        assert!(one.is_same(&1_u8));
        assert!(!one.is_same(&2_u8));
        assert!(!one.is_same(&1_u16));
        assert_eq!(downcast::<u8>(one), Some(&1));
        assert_eq!(downcast::<u16>(one), None);
    }
}
