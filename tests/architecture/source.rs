//! Paths in Rust source: which names a file uses, and where.
//!
//! Reads tokens, not grammar: enough to find every path, without a parser as a dependency.

/// One path in the text, in full: `kube::api::Api` for the `Api` in `use kube::{api::{Api}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathUse {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// In a `#[cfg(test)]` module.
    pub(super) test: bool,
}

impl PathUse {
    pub(super) fn text(&self) -> String {
        self.segments.join("::")
    }

    pub(super) fn starts_with(&self, prefix: &str) -> bool {
        let mut segments = self.segments.iter();
        prefix
            .split("::")
            .all(|part| segments.next().is_some_and(|segment| segment == part))
    }

    pub(super) fn ends_with(&self, suffix: &str) -> bool {
        let parts: Vec<&str> = suffix.split("::").collect();
        self.segments.len() >= parts.len()
            && self.segments[self.segments.len() - parts.len()..] == parts[..]
    }
}

/// `src/reconcile/feeds.rs` is `["reconcile", "feeds"]`, `src/lib.rs` is `[]`.
pub(super) fn module_path(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    if path == "lib" {
        return Vec::new();
    }
    path.split('/').map(str::to_owned).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// Words, `::`, and single punctuation characters; no comments, strings, characters or lifetimes.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let (mut index, mut line) = (0, 1);
    while index < chars.len() {
        let start = index;
        let c = at(index);
        if c == '/' && at(index + 1) == '/' {
            while index < chars.len() && at(index) != '\n' {
                index += 1;
            }
        } else if c == '/' && at(index + 1) == '*' {
            let mut depth = 0;
            loop {
                match (at(index), at(index + 1)) {
                    ('/', '*') => {
                        depth += 1;
                        index += 2;
                    }
                    ('*', '/') => {
                        depth -= 1;
                        index += 2;
                    }
                    _ => index += 1,
                }
                if depth == 0 || index >= chars.len() {
                    break;
                }
            }
        } else if c == '"' {
            index = end_of_string(&chars, index);
        } else if c == '\'' {
            index = end_of_quote(&chars, index);
        } else if is_word(c) {
            while is_word(at(index)) {
                index += 1;
            }
            let word: String = chars[start..index].iter().collect();
            let raw = ["r", "br", "cr"].contains(&word.as_str());
            if raw && (at(index) == '"' || at(index) == '#' && "#\"".contains(at(index + 1))) {
                index = end_of_raw_string(&chars, index);
            } else if ["b", "c"].contains(&word.as_str()) && at(index) == '"' {
                index = end_of_string(&chars, index);
            } else {
                tokens.push(Token { text: word, line });
            }
        } else if c == ':' && at(index + 1) == ':' {
            index += 2;
            tokens.push(Token {
                text: "::".to_owned(),
                line,
            });
        } else {
            index += 1;
            if !c.is_whitespace() {
                tokens.push(Token {
                    text: c.to_string(),
                    line,
                });
            }
        }
        line += chars[start..index.min(chars.len())]
            .iter()
            .filter(|c| **c == '\n')
            .count();
    }
    tokens
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut index = start + 1;
    while index < chars.len() && chars[index] != '"' {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

/// From the first `#` or quote of a raw string, after its `r`.
fn end_of_raw_string(chars: &[char], start: usize) -> usize {
    let hashes = chars[start..].iter().take_while(|c| **c == '#').count();
    let mut index = start + hashes + 1;
    while index < chars.len() {
        let closed = chars[index] == '"'
            && chars[index + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
        index += 1;
        if closed {
            return index + hashes;
        }
    }
    index
}

/// A character (`'a'`, `'\n'`) or a lifetime (`'a`).
fn end_of_quote(chars: &[char], start: usize) -> usize {
    if chars.get(start + 1) == Some(&'\\') {
        let mut index = start + 3;
        while index < chars.len() && chars[index] != '\'' {
            index += 1;
        }
        return index + 1;
    }
    if chars.get(start + 2) == Some(&'\'') {
        return start + 3;
    }
    start + 1 // the lifetime's name is a separate word, which is not a path
}

/// Every path of a file, with `use` groups expanded, and `self` and `super` resolved to the crate's root.
pub(super) fn paths(file: &str, source: &str) -> Vec<PathUse> {
    let tokens = tokens(source);
    let root = module_path(file);
    let mut found = Vec::new();
    // Enclosing inline modules: name, depth of braces outside, and whether for tests only.
    let mut open: Vec<(String, usize, bool)> = Vec::new();
    let (mut depth, mut index) = (0_usize, 0);
    while index < tokens.len() {
        let word = tokens[index].text.as_str();
        let next = |offset: usize| tokens.get(index + offset).map(|token| token.text.as_str());
        match word {
            "mod" if next(2) == Some("{") => {
                let inside = open.last().is_some_and(|(_, _, test)| *test);
                let inner = inside || is_for_tests(&tokens[..index]);
                open.push((tokens[index + 1].text.clone(), depth, inner));
                depth += 1;
                index += 3;
                continue;
            }
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                open.pop_if(|(_, outside, _)| *outside == depth);
            }
            _ => {}
        }
        let starts_path = word.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && next(1) == Some("::")
            && (index == 0 || tokens[index - 1].text != "::" || starts_globally(&tokens[..index]));
        if !starts_path {
            index += 1;
            continue;
        }
        let test = open.last().is_some_and(|(_, _, test)| *test);
        let mut here: Vec<&str> = root.iter().map(String::as_str).collect();
        here.extend(open.iter().map(|(name, _, _)| name.as_str()));
        let mut collected = Vec::new();
        index = collect(&tokens, index, &[], &mut collected);
        found.extend(collected.into_iter().map(|(segments, line)| PathUse {
            segments: resolve(&segments, &here),
            line,
            test,
        }));
    }
    found
}

/// `::kube::Api`: nothing before the `::` belongs to the path.
fn starts_globally(before: &[Token]) -> bool {
    let [.., previous, _] = before else {
        return true;
    };
    ![">", "]", ")"].contains(&previous.text.as_str())
        && (previous.text == "use"
            || !previous
                .text
                .starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Whether `#[cfg(test)]` precedes a module, back to the end of the previous item.
fn is_for_tests(before: &[Token]) -> bool {
    let words: Vec<&str> = before.iter().map(|token| token.text.as_str()).collect();
    let item = words
        .rsplit(|word| [";", "{", "}"].contains(word))
        .next()
        .unwrap_or_default();
    item.windows(7)
        .any(|seven| seven == ["#", "[", "cfg", "(", "test", ")", "]"])
}

/// The modules in files of their own that a file declares for tests only.
pub(super) fn test_modules(file: &str, text: &str) -> Vec<Vec<String>> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    for (index, three) in tokens.windows(3).enumerate() {
        if three[0].text == "mod" && three[2].text == ";" && is_for_tests(&tokens[..index]) {
            let mut module = module_path(file);
            module.push(three[1].text.clone());
            found.push(module);
        }
    }
    found
}

/// Collects the path, or the group of paths, that begins at `index`; returns its end.
fn collect(
    tokens: &[Token],
    mut index: usize,
    prefix: &[String],
    found: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let mut segments = prefix.to_vec();
    let mut line = tokens.get(index).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(index) {
        match token.text.as_str() {
            "{" => {
                index += 1;
                while tokens.get(index).is_some_and(|token| token.text != "}") {
                    if tokens[index].text == "," {
                        index += 1;
                    } else {
                        let before = index;
                        index = collect(tokens, index, &segments, found);
                        // `as name`, or not a group of paths at all: always advance.
                        index = index.max(before + 1);
                    }
                }
                return index + 1;
            }
            "self" if !segments.is_empty() => index += 1,
            "*" => {
                segments.push("*".to_owned());
                index += 1;
            }
            text if text.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                segments.push(text.to_owned());
                line = token.line;
                index += 1;
            }
            _ => break,
        }
        if tokens.get(index).is_some_and(|token| token.text == "::") {
            index += 1;
        } else {
            break;
        }
    }
    if segments.len() > prefix.len() || !prefix.is_empty() {
        found.push((segments, line));
    }
    if tokens.get(index).is_some_and(|token| token.text == "as") {
        index += 2;
    }
    index
}

/// Resolves `self` and `super` from the module `here` to a path that begins with `crate`.
fn resolve(segments: &[String], here: &[&str]) -> Vec<String> {
    let mut module = here.to_vec();
    let mut rest = segments;
    let relative = ["self", "super"].contains(&segments[0].as_str());
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "self" => {}
            "super" => {
                module.pop();
            }
            _ => break,
        }
        rest = after;
    }
    if !relative {
        return segments.to_vec();
    }
    std::iter::once("crate")
        .chain(module)
        .map(str::to_owned)
        .chain(rest.iter().cloned())
        .collect()
}
