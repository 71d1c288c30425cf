//! States are reached through the backend alone, and what is kept by key is kept in a `Store`.

use super::{module_path, paths, sources, test_modules};

/// Who names the trait of the backends: the rest asks `States`.
const BEHIND_STATES: [&str; 3] = [
    "src/app/backend.rs",
    "src/app/parts.rs",
    "src/reconcile/states.rs",
];

/// What is shipped: neither tests nor what stands behind `#[cfg(test)]` at the end of a file.
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

/// The text without white space and comments, so that a type is found however it is broken into lines.
fn dense(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect()
}

#[test]
fn nothing_but_the_states_reaches_a_backend() {
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
            "{file} reaches a backend: go through reconcile::states"
        );
    }
    assert!(
        named.contains(&"src/reconcile/states.rs".to_owned()),
        "{named:?}"
    );
}

#[test]
fn no_state_of_a_node_is_kept_beside_the_backend() {
    for (file, text) in shipped() {
        let text = dense(&text);
        for keeper in ["Store<", "HashMap<", "BTreeMap<", "OnceMap<"] {
            for (at, _) in text.match_indices(keeper) {
                let arguments = arguments(&text[at + keeper.len()..]);
                assert!(
                    !["Evaluated", "NodeState>", "NodeState,"]
                        .iter()
                        .any(|state| format!("{arguments},").contains(state)),
                    "{file}: {keeper}{arguments}> keeps states beside the backend"
                );
            }
        }
    }
}

#[test]
fn what_is_kept_by_key_under_a_lock_is_a_store() {
    for (file, text) in shipped() {
        // The store is made of one, and the books of locks cannot ask themselves.
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

/// The text up to the `>` that closes what was opened before it.
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
