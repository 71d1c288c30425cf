//! Rows of texts in one allocation.
//!
//! A Node has dozens of labels, annotations, taints and conditions. 30 labels take about 4 KB as a map of strings;
//! one string takes only its characters.

/// Separates the fields. It cannot occur in a label; rows with it in another text are left out.
const SEPARATOR: char = '\u{0}';

/// Rows of `N` texts each, compact and immutable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Rows<const N: usize>(Box<str>);

impl<const N: usize> Rows<N> {
    /// Stores the rows. Callers that compare pass them sorted: rows in different orders are not equal.
    pub fn new<'a>(rows: impl IntoIterator<Item = [&'a str; N], IntoIter: Clone>) -> Self {
        let rows = rows.into_iter();
        let length = |row: [&str; N]| row.iter().map(|field| field.len() + 1).sum::<usize>();
        let mut text = String::with_capacity(rows.clone().map(length).sum());
        for row in rows {
            if row.iter().any(|field| field.contains(SEPARATOR)) {
                continue;
            }
            for field in row {
                text.push_str(field);
                text.push(SEPARATOR);
            }
        }
        Self(text.into_boxed_str())
    }

    /// The rows, in their order.
    pub fn iter(&self) -> impl Iterator<Item = [&str; N]> {
        let mut fields = self.0.split_terminator(SEPARATOR);
        std::iter::from_fn(move || {
            let mut row = [""; N];
            for field in &mut row {
                *field = fields.next()?;
            }
            Some(row)
        })
    }

    /// The first row whose first field is `key`.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<[&str; N]> {
        self.iter().find(|row| row.first() == Some(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_returned_unchanged_with_empty_fields() {
        let rows = Rows::new([["a", "", "x"], ["b", "y", ""]]);
        let all: Vec<[&str; 3]> = rows.iter().collect();
        assert_eq!(all, [["a", "", "x"], ["b", "y", ""]]);
        assert_eq!(rows.find("b"), Some(["b", "y", ""]));
        assert_eq!(rows.find("y"), None);
        assert_eq!(Rows::<2>::default().iter().count(), 0);
    }

    #[test]
    fn only_the_row_with_a_separator_is_left_out() {
        let rows = Rows::new([["a", "1\u{0}b"], ["c", "2"]]);
        assert_eq!(rows.iter().collect::<Vec<_>>(), [["c", "2"]]);
    }
}
