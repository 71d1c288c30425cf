//! Prints the tables: redrawn in place on a terminal, as snapshots in a pipe.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::view::View;

/// In a pipe, a snapshot is printed at most this often.
const SNAPSHOT: Duration = Duration::from_secs(5);

/// Rows and columns of a terminal whose size is unknown.
const SIZE: (usize, usize) = (24, 80);

/// Where text is wrapped in a pipe.
const PAGE: usize = 100;

/// The output of the demo.
pub(super) struct Screen {
    terminal: bool,
    started: Instant,
    announcement: Option<String>,
    drawn: bool,
    last: Option<(Instant, Vec<String>)>,
}

impl Screen {
    /// Prints to standard output.
    pub(super) fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            started: Instant::now(),
            announcement: None,
            drawn: false,
            last: None,
        }
    }

    /// Shows a message above the tables.
    pub(super) fn announce(&mut self, what: &str) {
        if self.terminal {
            self.announcement = Some(what.to_owned());
        } else {
            emit(&format!("\n{what}\n"));
        }
    }

    /// Shows the current tables.
    pub(super) fn show(&mut self, view: &View) {
        if self.terminal {
            let clear = if self.drawn { "" } else { "\x1b[2J" };
            self.drawn = true;
            let (height, width) = size();
            let lines = fit(view, self.heading(), height, width);
            // Home, clear to the end of each line, then clear below: no flicker, unlike clearing first.
            emit(&format!(
                "{clear}\x1b[H{}\x1b[K\n\x1b[J",
                lines.join("\x1b[K\n")
            ));
            return;
        }
        let state = view.fingerprint();
        let due = self
            .last
            .as_ref()
            .is_none_or(|(at, shown)| *shown != state && at.elapsed() >= SNAPSHOT);
        if due {
            self.print(view);
            self.last = Some((Instant::now(), state));
        }
    }

    /// Shows the final tables in full.
    pub(super) fn finish(&mut self, view: &View) {
        if self.terminal {
            emit("\x1b[2J\x1b[H");
        }
        self.print(view);
    }

    fn print(&self, view: &View) {
        let lines = [
            vec![self.heading()],
            view.pool_lines(),
            view.held_up_lines(PAGE),
            vec![String::new()],
            view.node_lines(usize::MAX - 1),
        ];
        emit(&format!("\n{}\n", lines.concat().join("\n")));
    }

    fn heading(&self) -> String {
        let announcement = self.announcement.as_deref().unwrap_or_default();
        format!(
            "After {:.0} s. {announcement}",
            self.started.elapsed().as_secs_f64()
        )
        .trim_end()
        .to_owned()
    }
}

/// The lines that fit a terminal; the last one counts those that do not.
fn fit(view: &View, heading: String, height: usize, width: usize) -> Vec<String> {
    let mut lines = vec![heading];
    lines.extend(view.pool_lines());
    lines.extend(view.held_up_lines(width));
    lines.push(String::new());
    // The cursor stays on the line below the last one.
    let room = height.saturating_sub(1);
    let rows = room.saturating_sub(lines.len() + 1);
    let nodes = view.node_lines(rows);
    let hidden = (lines.len() + nodes.len()).saturating_sub(room);
    lines.extend(nodes);
    if hidden > 0 {
        lines.truncate(room.saturating_sub(1));
        lines.push(format!("… and {} more rows", hidden + 1));
    }
    lines
        .iter()
        .map(|line| line.chars().take(width).collect())
        .collect()
}

/// The text in lines of at most this width, as far as its words allow, each after the indentation.
pub(super) fn wrap(text: &str, indentation: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indentation}{word}")),
        }
    }
    lines
}

/// Writes to standard output; unlike `println!`, ignores a closed pipe.
pub(super) fn emit(text: &str) {
    let mut out = std::io::stdout().lock();
    // The demo runs to its end, and cleans up, even if nothing reads its output.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Rows and columns of the terminal.
fn size() -> (usize, usize) {
    let asked = File::open("/dev/tty").and_then(|tty| {
        let mut stty = Command::new("stty");
        stty.arg("size").stdin(tty).stderr(Stdio::null()).output()
    });
    let Ok(output) = asked else {
        return SIZE;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text
        .split_whitespace()
        .filter_map(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(rows), Some(columns)) if rows > 0 && columns > 0 => (rows, columns),
        _ => SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrap("one two  three", "  ", 9), ["  one two", "  three"]);
        assert_eq!(wrap("unbreakable so", " ", 5), [" unbreakable", " so"]);
        assert!(wrap("", "  ", 9).is_empty());
    }
}
