//! Sanitizes external text for a status.
//!
//! Annotations and reasons come from outside: lengths are limited, control characters are removed, and texts are
//! truncated only between characters.

use std::borrow::Cow;

use crate::api::types::{MESSAGE_LIMIT, SUMMARY_LIMIT};

/// Longest name of an object in the API.
const NAME_LIMIT: usize = 253;
/// Replaces the truncated part.
const ELLIPSIS: char = '…';

/// The text for a condition message: line breaks stay, other control characters become blanks, at most
/// [`MESSAGE_LIMIT`] characters.
#[must_use]
pub fn message(text: &str) -> Cow<'_, str> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    if text.len() <= MESSAGE_LIMIT && (is_plain(text) || !text.chars().any(is_unwanted)) {
        return Cow::Borrowed(text);
    }
    let cleaned = text.chars().map(|c| if is_unwanted(c) { ' ' } else { c });
    Cow::Owned(truncate(cleaned, MESSAGE_LIMIT))
}

/// The text in one line, words separated by single blanks, at most [`SUMMARY_LIMIT`] characters.
#[must_use]
pub fn summary(text: &str) -> String {
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        // Long enough to be truncated: a reason may have 256 KB.
        if line.len() > 4 * SUMMARY_LIMIT {
            break;
        }
    }
    if line.len() <= SUMMARY_LIMIT {
        return line;
    }
    truncate(line.chars(), SUMMARY_LIMIT)
}

/// A short word (a version, a boot ID, a name): no control characters, trimmed, at most `limit`
/// characters; `None` when nothing is left.
#[must_use]
pub fn word(text: &str, limit: usize) -> Option<Cow<'_, str>> {
    if text.len() <= limit && !text.chars().any(char::is_control) {
        return Some(Cow::Borrowed(text.trim())).filter(|word| !word.is_empty());
    }
    let word: String = text.chars().filter(|c| !c.is_control()).collect();
    let word = word.trim();
    (!word.is_empty()).then(|| word.chars().take(limit).collect())
}

/// A word that is no longer than a name in the API; empty when nothing is left.
#[must_use]
pub fn name(text: &str) -> Box<str> {
    word(text, NAME_LIMIT).unwrap_or_default().into()
}

/// FNV-1a: a hash that is the same in every version of every program, as names require.
pub(crate) fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Whether the text is visible ASCII and blanks, as nearly all texts are: a cheap check.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn is_unwanted(c: char) -> bool {
    c.is_control() && c != '\n'
}

fn truncate(text: impl Iterator<Item = char>, limit: usize) -> String {
    let mut out = String::new();
    let mut text = text.enumerate().peekable();
    while let Some((index, c)) = text.next() {
        if index + 1 == limit && text.peek().is_some() {
            out.push(ELLIPSIS);
            return out;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_message_keeps_its_lines_and_loses_other_control_characters() {
        assert_eq!(message("  one\ntwo\u{7}\tthree\r\n"), "one\ntwo  three");
    }

    #[test]
    fn a_condition_message_is_truncated_at_the_character_limit_of_the_api() {
        let long = "ä".repeat(MESSAGE_LIMIT + 1);
        let truncated = message(&long);
        assert_eq!(truncated.chars().count(), MESSAGE_LIMIT);
        assert!(truncated.ends_with(ELLIPSIS));
        let fits = "ä".repeat(MESSAGE_LIMIT);
        assert_eq!(message(&fits), fits);
    }

    #[test]
    fn a_summary_is_one_line_of_at_most_two_hundred_characters() {
        assert_eq!(
            summary(" failed:\n\n  exit\tstatus 125 "),
            "failed: exit status 125"
        );
        let long = summary(&"wörter und mehr ".repeat(100));
        assert_eq!(long.chars().count(), SUMMARY_LIMIT);
        assert!(long.ends_with(ELLIPSIS));
    }

    #[test]
    fn a_word_without_visible_characters_is_none() {
        assert_eq!(word(" \u{0}\n ", 9), None);
        assert_eq!(word(" v1.36.3\n", 9).as_deref(), Some("v1.36.3"));
        assert_eq!(word("äöü", 2).as_deref(), Some("äö"));
    }
}
