//! States are accessed only through the backend, and keyed state is in a `Store`.

use super::{module_path, paths, sources, test_modules};

/// The files that use the trait of the backends: all others use `States`.
const BEHIND_STATES: [&str; 3] = [
    "src/app/backend.rs",
    "src/app/parts.rs",
    "src/reconcile/states.rs",
];

/// The shipped code: without tests, and without anything after `#[cfg(test)]` at the end of a file.
fn shipped() -> Vec<(String, String)> {
    let all = sources();
    let tests: Vec<Vec<String>> = all
        .iter()
        .flat_map(|(file, text)| test_modules(file, text))
        .collect();
    all.into_iter()
        .filter(|(file, _)| {
            let modules = module_path(file);
            !tests.iter().any(|test| modules.starts_with(test))
        })
        .map(|(file, text)| {
            let end = text.find("#[cfg(test)]").unwrap_or(text.len());
            (file, text[..end].to_owned())
        })
        .collect()
}

/// The text without white space and comments, so that a type is found however it is formatted.
fn dense(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect()
}

#[test]
fn only_the_states_use_a_backend() {
    let mut named = Vec::new();
    for (file, text) in shipped() {
        let backend = |path: &super::PathUse| {
            path.segments.iter().any(|segment| segment == "backend")
                && path.segments.iter().any(|segment| {
                    ["StateBackend", "MemoryBackend", "Database", "FileBackend"]
                        .contains(&segment.as_str())
                })
        };
        if !file.starts_with("src/registry/") && paths(&file, &text).iter().any(backend) {
            named.push(file);
        }
    }
    for file in &named {
        assert!(
            BEHIND_STATES.contains(&file.as_str()),
            "{file} uses a backend: go through reconcile::states"
        );
    }
    assert!(
        named.contains(&"src/reconcile/states.rs".to_owned()),
        "{named:?}"
    );
}

#[test]
fn no_state_of_a_node_is_stored_outside_the_backend() {
    for (file, text) in shipped() {
        let text = dense(&text);
        for map in ["Store<", "HashMap<", "BTreeMap<", "OnceMap<"] {
            for (at, _) in text.match_indices(map) {
                let arguments = arguments(&text[at + map.len()..]);
                assert!(
                    !["Evaluated", "NodeState>", "NodeState,"]
                        .iter()
                        .any(|state| format!("{arguments},").contains(state)),
                    "{file}: {map}{arguments}> stores states outside the backend"
                );
            }
        }
    }
}

#[test]
fn keyed_state_under_a_lock_is_a_store() {
    for (file, text) in shipped() {
        // The store itself is a locked map, and the books of locks cannot check themselves.
        if ["src/registry/store.rs", "src/registry/lock_order/books.rs"].contains(&file.as_str()) {
            continue;
        }
        let text = dense(&text);
        for lock in ["Mutex<", "RwLock<", "OrderedMutex<", "OrderedRwLock<"] {
            for (at, _) in text.match_indices(lock) {
                let arguments = arguments(&text[at + lock.len()..]);
                assert!(
                    !arguments.contains("Map<"),
                    "{file}: {lock}{arguments}> is a map with a lock: use registry::store::Store"
                );
            }
        }
    }
}

/// The text up to the matching `>`.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if !text[..at].ends_with(['-', '=']) => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}
