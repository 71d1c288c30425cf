//! `docs/alerts.md` has a section for each alert, and no others.

use std::fs;

use anyhow::Result;

use crate::rules::Rules;
use crate::support::project;

/// The parts of each section.
const PARTS: [&str; 3] = ["**Means:**", "**Look at:**", "**Do:**"];

#[test]
fn every_alert_has_its_section_and_every_section_its_alert() -> Result<()> {
    let text = fs::read_to_string(project().join("docs/alerts.md"))?;
    let sections: Vec<(&str, &str)> = text
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap())
        .collect();
    let alerts = Rules::rendered(&[])?.alerts()?;
    let names: Vec<&str> = alerts.iter().map(|alert| &*alert.name).collect();
    let titles: Vec<&str> = sections.iter().map(|(title, _)| *title).collect();
    assert_eq!(titles, names, "left: the sections, right: the alerts");
    for (title, section) in sections {
        for part in PARTS {
            assert!(section.contains(part), "{title} has no {part}");
        }
    }
    // The anchor of a heading is its text in lower case.
    for alert in &alerts {
        let anchor = alert.name.to_lowercase();
        let expected = format!("docs/alerts.md#{anchor}");
        assert_eq!(alert.annotations.runbook_url, expected);
    }
    let elsewhere = "prometheusRule.runbookUrl=https://example.com/alerts";
    for alert in Rules::rendered(&["--set", elsewhere])?.alerts()? {
        let anchor = alert.name.to_lowercase();
        let expected = format!("https://example.com/alerts#{anchor}");
        assert_eq!(alert.annotations.runbook_url, expected);
    }
    Ok(())
}
