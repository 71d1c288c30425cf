//! Valid and invalid keys and metadata.

use super::*;

/// Returns the error of every operation that takes a key.
fn answers(backend: &Backend, key: &Arc<str>) -> Vec<Option<BackendError>> {
    vec![
        backend.register(key, (1, 1)).err(),
        backend.update(key, (1, 2)).err(),
        backend.lookup(key).err(),
        backend.update_metadata(key, bytes(b"x")).err(),
        backend.metadata(key).err(),
        backend.unregister(key).err(),
    ]
}

#[test]
fn a_key_has_1_to_253_bytes() {
    with_each(|backend| {
        for length in [1, MAX_KEY] {
            for answer in answers(&backend, &key(&"k".repeat(length))) {
                assert_eq!(answer, None, "{length} bytes");
            }
        }
        // The last one has 127 characters and 254 bytes.
        for invalid in ["", &"k".repeat(MAX_KEY + 1), &"ü".repeat(127)] {
            for answer in answers(&backend, &key(invalid)) {
                assert_eq!(answer.unwrap().category(), "invalid_key", "{invalid:?}");
            }
        }
        assert_eq!(backend.counter().count(), 0);
        assert_eq!(backend.list().unwrap().values, []);
    });
}

#[test]
fn a_hostile_key_is_named_in_one_short_line() {
    with_each(|backend| {
        for hostile in ["\n\u{1b}[31m".repeat(50_000), "🙈".repeat(100_000)] {
            let error = backend.register(&key(&hostile), (1, 1)).unwrap_err();
            let message = error.to_string();
            assert!(message.len() < 400, "{} bytes", message.len());
            assert!(!message.contains(char::is_control), "{message}");
            assert!(
                message.contains(&format!("{} bytes", hostile.len())),
                "{message}"
            );
        }
        let error = backend.unregister(&key("\n\u{1b}[31m")).unwrap_err();
        assert!(!error.to_string().contains(char::is_control), "{error}");
    });
}

#[test]
fn metadata_belongs_to_a_registered_key() {
    with_each(|backend| {
        let a = key("a");
        assert_eq!(
            backend.update_metadata(&a, bytes(b"x")),
            Err(not_found("a"))
        );
        assert_eq!(backend.metadata(&a), Ok(None));
        backend.register(&a, (1, 1)).unwrap();
        assert_eq!(backend.metadata(&a), Ok(None));
        backend.update_metadata(&a, bytes(b"x")).unwrap();
        assert_eq!(backend.metadata(&a), Ok(Some(bytes(b"x"))));
        backend.update(&a, (2, 2)).unwrap();
        assert_eq!(backend.metadata(&a), Ok(Some(bytes(b"x"))));
        backend.update_metadata(&a, bytes(b"yy")).unwrap();
        assert_eq!(backend.metadata(&a), Ok(Some(bytes(b"yy"))));
        backend.update_metadata(&a, bytes(b"")).unwrap();
        assert_eq!(
            backend.metadata(&a),
            Ok(Some(bytes(b""))),
            "empty metadata differs from none"
        );
        backend.unregister(&a).unwrap();
        assert_eq!(backend.metadata(&a), Ok(None));
        backend.register(&a, (1, 1)).unwrap();
        assert_eq!(backend.metadata(&a), Ok(None), "it was registered again");
    });
}

#[test]
fn too_much_metadata_is_rejected_and_the_old_stays() {
    with_each(|backend| {
        let a = key("a");
        backend.register(&a, (1, 1)).unwrap();
        let most = Metadata::new(vec![7; MAX_METADATA]);
        backend.update_metadata(&a, most.clone()).unwrap();
        let error = backend
            .update_metadata(&a, Metadata::new(vec![8; MAX_METADATA + 1]))
            .unwrap_err();
        assert_eq!(
            error,
            BackendError::InvalidMetadata {
                key: a.clone(),
                size: MAX_METADATA + 1,
                limit: MAX_METADATA
            }
        );
        assert_eq!(
            error.to_string(),
            "the metadata of \"a\" has 65537 bytes, at most 65536 are allowed"
        );
        assert_eq!(backend.metadata(&a), Ok(Some(most)));
    });
}

#[test]
fn metadata_of_registered_keys_is_not_forgotten() {
    with_each(|backend| {
        backend.register(&key("a"), (1, 1)).unwrap();
        backend.update_metadata(&key("a"), bytes(b"x")).unwrap();
        assert_eq!(backend.forget_unregistered(), Ok(0));
        assert_eq!(backend.metadata(&key("a")), Ok(Some(bytes(b"x"))));
    });
}
