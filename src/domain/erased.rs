//! Values of types that the operator does not know: what a provider reads of a Node or of another object.

use std::any::Any;
use std::fmt::Debug;

/// A value of some type that can be compared with another one, and turned back into its type.
pub trait Erased: Any + Debug + Send + Sync {
    /// Whether the other one has the same type and is equal.
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
