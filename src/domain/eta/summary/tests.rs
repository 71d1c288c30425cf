//! Rules of summaries.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::api::types::UpdateKind;
use crate::domain::eta::Span;

const KINDS_OF_UPDATE: [Option<UpdateKind>; 6] = [
    None,
    Some(UpdateKind::Version),
    Some(UpdateKind::Configuration),
    Some(UpdateKind::Image),
    Some(UpdateKind::Reboot),
    Some(UpdateKind::Replacement),
];

fn learned(stages: &[(usize, usize, i64)], kinds: usize) -> Learned {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let mut learned = Learned::default();
    for (kind, stage, seconds) in stages {
        let (kind, stage) = (KINDS_OF_UPDATE[kind % kinds], Stage::ALL[stage % 5]);
        let span = Span {
            blocked: SignedDuration::from_secs(seconds % 3),
            ..Span::seen(now - SignedDuration::from_secs(*seconds), now)
        };
        learned.stage_ended(kind, stage, &span);
        learned.node_updated(kind, &[stage]);
        learned.outcome(seconds % 3 == 0);
    }
    learned.in_progress(7);
    learned
}

fn any_learned(kinds: usize) -> impl Strategy<Value = Learned> {
    let stage = (any::<usize>(), any::<usize>(), 0_i64..40_000);
    (prop::collection::vec(stage, 0..300), 0..3_u32).prop_map(move |(stages, rollouts)| {
        let mut learned = learned(&stages, kinds);
        for _ in 0..rollouts {
            learned.rollout_ended(7);
        }
        learned
    })
}

/// The largest difference between two tables.
fn difference(left: &LifeTable, right: &LifeTable) -> f64 {
    let bins = left.bins().zip(right.bins());
    bins.map(|((a, b), (c, d))| (a - c).abs().max((b - d).abs()))
        .fold(0.0, f64::max)
}

proptest! {
    #[test]
    fn a_summary_can_be_read_back_and_loses_nothing_that_matters(learned in any_learned(1)) {
        let back = decode(&encode(&learned)).unwrap();
        prop_assert_eq!(back.parallelism, learned.parallelism);
        let factors = back.calibration.factor() - learned.calibration.factor();
        prop_assert!(factors.abs() <= 0.0051);
        prop_assert!(difference(&back.blocked.table, &learned.blocked.table) <= 0.04);
        prop_assert_eq!(back.kinds.len(), learned.kinds.len());
        for (letter, of_kind) in &learned.kinds {
            let read = &back.kinds[letter];
            prop_assert!((read.nodes.min(255.0) - of_kind.nodes.min(255.0)).abs() <= 1.0);
            for stage in Stage::ALL {
                let (read, table) = (read.tables.get(stage), of_kind.tables.get(stage));
                prop_assert!(difference(read, table) <= 0.04, "{:?}", stage);
            }
        }
    }

    #[test]
    fn a_summary_that_was_read_is_written_the_same_way(learned in any_learned(6)) {
        let text = encode(&learned);
        prop_assert_eq!(encode(&decode(&text).unwrap()), text);
    }

    #[test]
    fn a_summary_has_at_most_a_kibibyte(learned in any_learned(6)) {
        prop_assert!(encode(&learned).len() <= SUMMARY_LIMIT);
    }

    #[test]
    fn a_truncated_summary_is_refused(learned in any_learned(3), at in any::<prop::sample::Index>()) {
        let text = encode(&learned);
        prop_assert!(decode(&text[..at.index(text.len())]).is_err());
    }

    #[test]
    fn a_summary_with_another_character_is_refused(
        learned in any_learned(3),
        at in any::<prop::sample::Index>(),
        with in any::<char>(),
    ) {
        let text = encode(&learned);
        let at = at.index(text.len());
        let changed = format!("{}{with}{}", &text[..at], &text[at + 1..]);
        prop_assume!(changed != text);
        prop_assert!(decode(&changed).is_err());
    }

    #[test]
    fn arbitrary_text_is_refused(text in any::<String>()) {
        prop_assert!(decode(&text).is_err());
    }

    #[test]
    fn arbitrary_content_with_a_checksum_does_not_panic(content in "[A-D;:,.*0-9VNX]{0,200}") {
        let content = format!("eta1:{content}");
        let _ = decode(&format!("{content}:{}", checksum(&content)));
    }

    #[test]
    fn arbitrary_fields_do_not_panic(content in "100;1;(AB,[*A-C.]{0,9}){1,2}(;V:[A,.*]{0,40}){0,2}") {
        let content = format!("eta1:{content}");
        let _ = decode(&format!("{content}:{}", checksum(&content)));
    }
}

#[test]
fn an_error_says_what_is_wrong() {
    let good = encode(&learned(&[(0, 2, 90), (1, 3, 120)], 2));
    let sealed = |content: &str| format!("{content}:{}", checksum(content));
    for (text, error) in [
        ("{\"version\":1}".to_owned(), SummaryError::Foreign),
        (
            good.replacen("eta1", "eta2", 1),
            SummaryError::OtherVersion(2),
        ),
        (good.replacen("eta1", "etaX", 1), SummaryError::Foreign),
        (good.replacen(";7;", ";8;", 1), SummaryError::Damaged),
        (
            format!("{good}{}", "A".repeat(2_000)),
            SummaryError::TooLong(good.len() + 2_000),
        ),
        (
            sealed("eta1:900;1;AA,."),
            SummaryError::Invalid("calibration"),
        ),
        (
            sealed("eta1:100;-1;AA,."),
            SummaryError::Invalid("parallelism"),
        ),
        (sealed("eta1:100;1;AA,."), SummaryError::Invalid("")),
        (
            sealed("eta1:100;1;AA,.;Q:AA"),
            SummaryError::Invalid("kind of update"),
        ),
        (
            sealed("eta1:100;1;AA,*9AB."),
            SummaryError::Invalid("number of bins"),
        ),
    ] {
        let decoded = decode(&text);
        if error == SummaryError::Invalid("") {
            assert!(decoded.is_ok(), "{text}: {decoded:?}");
        } else {
            assert_eq!(decoded, Err(error), "{text}");
        }
    }
}
