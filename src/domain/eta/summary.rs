//! What was learned of a pool as a short text, so that it outlives the process and another replica can go on.
//!
//! ```text
//! eta1:115;3;  ABC,…;  V:ABC,ABC,ABC,ABC,TABLE,TABLE,TABLE,TABLE,TABLE;  …  :CHECKSUM
//!   │   │  │    │      └─ a kind of update: nodes, visits, a table for each stage; other kinds follow
//!   │   │  │    └─ blocked drains: how many drains, and the table
//!   │   │  └─ parallelism
//!   │   └─ calibration, in percent
//!   └─ version
//! ```
//!
//! (Without the spaces.) A table is its exits, a full stop, and its exposure, each up to the last bin that is not 0. A
//! number is two digits of base 64, in sixteenths; `*` and one digit repeat the number behind them. Of a text that is
//! damaged, of another version or of something else nothing is used.

use super::bins::BINS;
use super::calibration::Calibration;
use super::learned::{Blocked, Learned, OfKind};
use super::life_table::LifeTable;
use super::random::fnv_1a;
use super::stage::{PerStage, Stage};

/// The longest summary, in bytes.
pub const SUMMARY_LIMIT: usize = 1_024;

const NAME: &str = "eta";
const VERSION: u32 = 1;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Length of the checksum, in digits.
const CHECKSUM: usize = 6;
/// Numbers are in sixteenths.
const UNIT: f64 = 16.0;
const REPEAT: u8 = b'*';
/// The letters of the kinds.
const KINDS: &str = "NVCIRX";

/// Why a summary cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SummaryError {
    /// It is something else.
    #[error("not a summary of durations")]
    Foreign,
    /// It was written by another version of this program.
    #[error("a summary of version {0}, and only version {VERSION} is known")]
    OtherVersion(u32),
    /// It is longer than any summary.
    #[error("a summary of {0} bytes, and none has more than {SUMMARY_LIMIT}")]
    TooLong(usize),
    /// It has been changed or truncated.
    #[error("the checksum does not match: the summary was changed or truncated")]
    Damaged,
    /// Its checksum matches, and its content has an error.
    #[error("invalid {0}")]
    Invalid(&'static str),
}

/// Encodes what was learned, in at most [`SUMMARY_LIMIT`] bytes: of more kinds of update than fit, those with the
/// fewest nodes are left out.
#[must_use]
pub fn encode(learned: &Learned) -> String {
    let Learned {
        kinds,
        blocked,
        parallelism,
        calibration,
    } = learned;
    let mut head = format!(
        "{NAME}{VERSION}:{:.0};{parallelism};",
        calibration.factor() * 100.0
    );
    write_number(&mut head, blocked.drains);
    head.push(',');
    write_table(&mut head, &blocked.table);
    let mut texts: Vec<(f64, String)> = kinds
        .iter()
        .map(|(letter, of_kind)| (of_kind.nodes, kind_text(*letter, of_kind)))
        .collect();
    texts.sort_by(|(fewer, _), (more, _)| more.total_cmp(fewer));
    for (_, text) in texts {
        if head.len() + text.len() + 1 + CHECKSUM <= SUMMARY_LIMIT {
            head.push_str(&text);
        }
    }
    signed(&head)
}

/// Decodes a summary.
///
/// # Errors
/// What is wrong with it; then nothing of it is used.
pub fn decode(text: &str) -> Result<Learned, SummaryError> {
    let (version, _) = text
        .strip_prefix(NAME)
        .and_then(|rest| rest.split_once(':'))
        .ok_or(SummaryError::Foreign)?;
    let version: u32 = version.parse().map_err(|_| SummaryError::Foreign)?;
    if version != VERSION {
        return Err(SummaryError::OtherVersion(version));
    }
    if text.len() > SUMMARY_LIMIT {
        return Err(SummaryError::TooLong(text.len()));
    }
    let (content, sum) = text.rsplit_once(':').ok_or(SummaryError::Damaged)?;
    if checksum(content) != sum {
        return Err(SummaryError::Damaged);
    }
    let (_, content) = content.split_once(':').ok_or(SummaryError::Damaged)?;
    let mut parts = content.split(';');
    let mut next = |what| parts.next().ok_or(SummaryError::Invalid(what));
    let calibration = calibration(next("calibration")?)?;
    let parallelism = next("parallelism")?;
    let parallelism = parallelism
        .parse()
        .map_err(|_| SummaryError::Invalid("parallelism"))?;
    let blocked = blocked(next("blocked drains")?)?;
    Ok(Learned {
        kinds: parts.map(kind).collect::<Result<_, _>>()?,
        blocked,
        parallelism,
        calibration,
    })
}

/// The content with its checksum, as [`encode`] makes it.
#[must_use]
pub fn signed(content: &str) -> String {
    let checksum = checksum(content);
    format!("{content}:{checksum}")
}

fn kind_text(letter: char, of_kind: &OfKind) -> String {
    let OfKind {
        tables,
        visits,
        nodes,
    } = of_kind;
    let mut text = format!(";{letter}:");
    write_number(&mut text, *nodes);
    for stage in Stage::OF_NODE {
        text.push(',');
        write_number(&mut text, *visits.get(stage));
    }
    for stage in Stage::ALL {
        text.push(',');
        write_table(&mut text, tables.get(stage));
    }
    text
}

fn kind(text: &str) -> Result<(char, OfKind), SummaryError> {
    let (letter, text) = text
        .split_once(':')
        .ok_or(SummaryError::Invalid("kind of update"))?;
    let letter = match letter.chars().next() {
        Some(first) if letter.len() == 1 && KINDS.contains(first) => first,
        Some(_) | None => return Err(SummaryError::Invalid("kind of update")),
    };
    let mut fields = text.split(',');
    let mut next = |what| fields.next().ok_or(SummaryError::Invalid(what));
    let nodes = number(next("number of nodes")?)?;
    let mut visits = PerStage::default();
    for stage in Stage::OF_NODE {
        *visits.get_mut(stage) = number(next("number of visits")?)?;
    }
    let mut tables = PerStage::default();
    for stage in Stage::ALL {
        *tables.get_mut(stage) = table(next("table")?)?;
    }
    let of_kind = OfKind {
        tables,
        visits,
        nodes,
    };
    match fields.next() {
        None => Ok((letter, of_kind)),
        Some(_) => Err(SummaryError::Invalid("number of fields")),
    }
}

fn calibration(text: &str) -> Result<Calibration, SummaryError> {
    let percent: u32 = text
        .parse()
        .map_err(|_| SummaryError::Invalid("calibration"))?;
    Calibration::with_factor(f64::from(percent) / 100.0).ok_or(SummaryError::Invalid("calibration"))
}

fn blocked(text: &str) -> Result<Blocked, SummaryError> {
    let (drains, rest) = text
        .split_once(',')
        .ok_or(SummaryError::Invalid("blocked drains"))?;
    Ok(Blocked {
        drains: number(drains)?,
        table: table(rest)?,
    })
}

fn write_table(text: &mut String, table: &LifeTable) {
    write_numbers(text, table.bins().map(|(exits, _)| exits));
    text.push('.');
    write_numbers(text, table.bins().map(|(_, exposure)| exposure));
}

fn table(text: &str) -> Result<LifeTable, SummaryError> {
    let (exits, exposure) = text.split_once('.').ok_or(SummaryError::Invalid("table"))?;
    Ok(LifeTable::of(&numbers(exits)?, &numbers(exposure)?))
}

/// Writes the numbers, without the zeros at the end.
fn write_numbers(text: &mut String, numbers: impl Iterator<Item = f64>) {
    let mut runs: Vec<(String, usize)> = Vec::new();
    for number in numbers {
        let mut written = String::new();
        write_number(&mut written, number);
        match runs.last_mut() {
            Some((last, length)) if *last == written => *length += 1,
            Some(_) | None => runs.push((written, 1)),
        }
    }
    let mut zero = String::new();
    write_number(&mut zero, 0.0);
    if runs.last().is_some_and(|(last, _)| *last == zero) {
        runs.pop();
    }
    for (number, length) in runs {
        if length > 2 {
            text.push(char::from(REPEAT));
            text.push(digit(length));
            text.push_str(&number);
        } else {
            text.push_str(&number.repeat(length));
        }
    }
}

fn numbers(text: &str) -> Result<[f64; BINS], SummaryError> {
    let mut numbers = [0.0; BINS];
    let mut places = numbers.iter_mut();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let (times, after) = match rest {
            [REPEAT, times, after @ ..] => (value(*times)?, after),
            _ => (1, rest),
        };
        let [high, low, after @ ..] = after else {
            return Err(SummaryError::Invalid("number"));
        };
        let number = f64::from(value(*high)? * 64 + value(*low)?) / UNIT;
        for _ in 0..times {
            *places
                .next()
                .ok_or(SummaryError::Invalid("number of bins"))? = number;
        }
        rest = after;
    }
    Ok(numbers)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast ends at the borders of the type"
)]
fn write_number(text: &mut String, number: f64) {
    let sixteenths = ((number * UNIT).round() as usize).min(64_usize.pow(2) - 1);
    text.push(digit(sixteenths / 64));
    text.push(digit(sixteenths % 64));
}

fn number(text: &str) -> Result<f64, SummaryError> {
    match text.as_bytes() {
        [high, low] => Ok(f64::from(value(*high)? * 64 + value(*low)?) / UNIT),
        _ => Err(SummaryError::Invalid("number")),
    }
}

fn digit(value: usize) -> char {
    DIGITS.get(value % 64).copied().map_or('A', char::from)
}

fn value(digit: u8) -> Result<u32, SummaryError> {
    let place = DIGITS.iter().position(|each| *each == digit);
    place
        .and_then(|place| u32::try_from(place).ok())
        .ok_or(SummaryError::Invalid("digit"))
}

fn checksum(content: &str) -> String {
    let mut hash = fnv_1a(content.bytes());
    let mut text = String::with_capacity(CHECKSUM);
    for _ in 0..CHECKSUM {
        text.push(digit(usize::try_from(hash % 64).unwrap_or_default()));
        hash /= 64;
    }
    text
}

#[cfg(test)]
mod tests;
