//! The documents: the README stays short, every page can be reached from it, and no link is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{read, repository_files, root};

/// About two screens, enough for a newcomer to get an idea within a minute.
const README_BYTES: usize = 10 * 1024;

/// The number of links from the README to any page: one to the index, one from there.
const CLICKS: usize = 2;

/// Documents that people look for by name.
const WELL_KNOWN: [&str; 5] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
];

/// Documents by their path in the repository.
type Documents = BTreeMap<String, String>;

/// The target of a link: a file, relative to the document or empty for the document itself, and an anchor in it.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    file: String,
    anchor: Option<String>,
}

#[test]
fn the_readme_is_short() {
    let bytes = read("README.md").len();
    assert!(
        bytes <= README_BYTES,
        "README.md has {bytes} bytes, the maximum is {README_BYTES}: move the rest to docs/ and link to it"
    );
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let documents = documents();
    let reached = reached(&documents, "README.md", CLICKS);
    let pages = documents
        .keys()
        .filter(|name| name.starts_with("docs/") || WELL_KNOWN.contains(&name.as_str()));
    let unreachable: Vec<&String> = pages.filter(|name| !reached.contains(*name)).collect();
    assert!(
        unreachable.is_empty(),
        "more than {CLICKS} links from README.md: {unreachable:?}; link them from docs/README.md"
    );
}

#[test]
fn no_link_is_dead() {
    let documents = documents();
    for needed in WELL_KNOWN {
        assert!(documents.contains_key(needed), "no {needed}");
    }
    let dead = dead_links(&documents, |file| root().join(file).exists());
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

/// Comments, help texts, alerts and scripts refer to pages as well, by their path in the repository.
#[test]
fn every_page_that_is_referred_to_exists() {
    let documents = documents();
    let mut dead = Vec::new();
    // This file has made-up pages.
    let files = repository_files()
        .into_iter()
        .filter(|file| file != "tests/repository/documents.rs");
    for file in files {
        let Ok(text) = fs::read_to_string(root().join(&file)) else {
            continue; // not text
        };
        for (page, anchor) in named_pages(&text) {
            let found = documents.get(&page);
            let exists = found.is_some_and(|text| {
                anchor
                    .as_ref()
                    .is_none_or(|anchor| anchors(text).contains(anchor))
            });
            if !exists {
                dead.push(format!("{file}: {page}{}", shown(anchor.as_deref())));
            }
        }
    }
    assert!(dead.is_empty(), "these do not exist:\n{}", dead.join("\n"));
}

#[test]
fn links_are_found_in_text_and_not_in_code() {
    let text = "See [a](a.md), [b](docs/b.md#part) and [c](https://example.com).\n[d](#here)\n\
                ```\n[x](x.md)\n```\n`[y](y.md)` [e]: e.md\n\n[f]: f.md\n[`g`](g.md)\n";
    let found: Vec<String> = links(text)
        .into_iter()
        .map(|link| format!("{}{}", link.file, shown(link.anchor.as_deref())))
        .collect();
    assert_eq!(found, ["a.md", "docs/b.md#part", "#here", "f.md", "g.md"]);
}

#[test]
fn a_heading_has_the_anchor_that_github_generates() {
    let text = "# `node-insights doctor`\n## What it may do, and why?\n## Twice\n## Twice\n\
                ```sh\n# no heading\n```\n####### seven\n### Under_score\n#none\n";
    let expected = [
        "node-insights-doctor",
        "what-it-may-do-and-why",
        "twice",
        "twice-1",
        "under_score",
    ];
    assert_eq!(anchors(text), expected.map(str::to_owned).into());
}

#[test]
fn dead_links_and_unlinked_pages_are_found() {
    let documents: Documents = [
        ("README.md", "[index](docs/README.md) [gone](gone.md)"),
        ("docs/README.md", "[a](a.md#part) [up](../README.md)"),
        ("docs/a.md", "# Part\n[deep](deep/b.md) [wrong](#parts)"),
        ("docs/deep/b.md", "[far](../c.md#none)"),
        ("docs/c.md", "[outside](../../x.md)"),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .into();
    let names = |clicks| Vec::from_iter(reached(&documents, "README.md", clicks));
    assert_eq!(names(1), ["README.md", "docs/README.md"]);
    assert_eq!(names(2), ["README.md", "docs/README.md", "docs/a.md"]);
    assert_eq!(names(9).len(), 5);
    assert_eq!(
        dead_links(&documents, |file| documents.contains_key(file)),
        [
            "README.md: gone.md",
            "docs/a.md: #parts",
            "docs/c.md: ../../x.md",
            "docs/deep/b.md: ../c.md#none",
        ]
    );
}

#[test]
fn references_to_pages_are_found() {
    let text =
        "//! See docs/a.md, `docs/deep/b.md#part-2`: docs/README.md. Not docs/adr, nor xdocs/c.md.";
    let found = named_pages(text);
    let expected = [
        ("docs/a.md", None),
        ("docs/deep/b.md", Some("part-2")),
        ("docs/README.md", None),
    ];
    let expected = expected.map(|(page, anchor)| (page.to_owned(), anchor.map(str::to_owned)));
    assert_eq!(found, expected);
}

/// Every document of the repository.
fn documents() -> Documents {
    repository_files()
        .into_iter()
        .filter(|file| Path::new(file).extension().is_some_and(|end| end == "md"))
        .map(|file| {
            let text = read(&file);
            (file, text)
        })
        .collect()
}

/// The documents that are at most `clicks` links away from `from`.
fn reached(documents: &Documents, from: &str, clicks: usize) -> BTreeSet<String> {
    let mut reached = BTreeSet::from([from.to_owned()]);
    let mut last = vec![from.to_owned()];
    for _ in 0..clicks {
        let mut next = Vec::new();
        for document in last {
            for link in links(&documents[&document]) {
                if let Some(file) = resolve(&document, &link.file)
                    && documents.contains_key(&file)
                    && reached.insert(file.clone())
                {
                    next.push(file);
                }
            }
        }
        last = next;
    }
    reached
}

/// Links to files or headings that do not exist.
fn dead_links(documents: &Documents, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut dead = Vec::new();
    for (document, text) in documents {
        for Link { file, anchor } in links(text) {
            let target = resolve(document, &file);
            let is_alive = match (&target, &anchor) {
                (None, _) => false,
                (Some(target), None) => exists(target),
                (Some(target), Some(anchor)) => documents
                    .get(target)
                    .is_some_and(|text| anchors(text).contains(anchor)),
            };
            if !is_alive {
                dead.push(format!("{document}: {file}{}", shown(anchor.as_deref())));
            }
        }
    }
    dead
}

/// The path in the repository of what a document links to; `None` when that is outside of it.
fn resolve(document: &str, link: &str) -> Option<String> {
    if link.is_empty() {
        return Some(document.to_owned());
    }
    let mut path = PathBuf::from(document);
    path.pop();
    for part in Path::new(link).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path.to_string_lossy().into_owned())
}

/// The links of a document to something in the repository.
fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for line in lines_of_text(text) {
        if let Some((name, target)) = line.split_once("]: ")
            && name.starts_with('[')
        {
            found.push(target.trim());
        }
        // Every second part is between backticks.
        for part in line.split('`').step_by(2) {
            let targets = part.split("](").skip(1);
            found.extend(targets.filter_map(|rest| Some(rest.split_once(')')?.0)));
        }
    }
    found
        .into_iter()
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .map(|target| match target.split_once('#') {
            Some((file, anchor)) => Link {
                file: file.to_owned(),
                anchor: Some(anchor.to_owned()),
            },
            None => Link {
                file: target.to_owned(),
                anchor: None,
            },
        })
        .collect()
}

/// The anchors of a document's headings, as GitHub generates them: lower case, hyphens for spaces, no punctuation, and
/// a number for duplicates.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in lines_of_text(text) {
        let title = line.trim_start_matches('#');
        let level = line.len() - title.len();
        let Some(title) = title.strip_prefix(' ').filter(|_| (1..=6).contains(&level)) else {
            continue;
        };
        let anchor: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone())
            .chain(numbered)
            .find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// The lines of a document that are not in a code block.
fn lines_of_text(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// Pages below `docs/` that a text refers to by their path in the repository, with their anchors.
fn named_pages(text: &str) -> Vec<(String, Option<String>)> {
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || "_-/.".contains(c);
    let is_of_anchor = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let mut found = Vec::new();
    for (at, _) in text.match_indices("docs/") {
        if text[..at].ends_with(is_of_path) {
            continue; // another folder of that name, or an external link
        }
        let rest = &text[at..];
        let end = rest.find(|c| !is_of_path(c)).unwrap_or(rest.len());
        let (path, rest) = rest.split_at(end);
        let path = path.trim_end_matches('.');
        if Path::new(path).extension().is_none_or(|end| end != "md") {
            continue;
        }
        let anchor = rest.strip_prefix('#').map(|rest| {
            let end = rest.find(|c| !is_of_anchor(c)).unwrap_or(rest.len());
            rest[..end].to_owned()
        });
        found.push((path.to_owned(), anchor.filter(|anchor| !anchor.is_empty())));
    }
    found
}

fn shown(anchor: Option<&str>) -> String {
    anchor
        .map(|anchor| format!("#{anchor}"))
        .unwrap_or_default()
}
