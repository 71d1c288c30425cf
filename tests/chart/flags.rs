//! The operator knows every flag and subcommand that the chart passes.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use crate::helm::{Case, Helm, Major, objects, one};

#[test]
fn every_flag_and_subcommand_of_the_chart_is_one_of_the_operator() -> Result<()> {
    let (mut of_operator, mut of_doctor) = (BTreeSet::new(), BTreeSet::new());
    for case in Case::accepted()? {
        let rendered = Helm::offline(Major::Four)?.template(&["--values", &case.path])?;
        let rendered = objects(&rendered)?;
        let deployment = one(&rendered, "Deployment", "");
        let args = words(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
        assert_eq!(args[0], "run");
        of_operator.extend(args);
        let doctor = one(&rendered, "Pod", "-doctor");
        let args = words(&doctor["spec"]["containers"][0]["args"]);
        assert_eq!(args[0], "doctor");
        of_doctor.extend(args);
    }
    assert!(of_operator.len() > 12, "{of_operator:?}");
    assert_eq!(unknown(&of_operator, "run")?, Vec::<&String>::new());
    assert_eq!(unknown(&of_doctor, "doctor")?, Vec::<&String>::new());
    Ok(())
}

/// The flags and subcommands among arguments, without values.
fn words(args: &Value) -> Vec<String> {
    let args = args.as_array().unwrap().iter();
    args.map(|arg| arg.as_str().unwrap().split('=').next().unwrap().to_owned())
        .collect()
}

fn unknown<'a>(used: &'a BTreeSet<String>, subcommand: &str) -> Result<Vec<&'a String>> {
    let known = help(&[])? + &help(&[subcommand])?;
    let known: BTreeSet<&str> = known
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .collect();
    let is_known = |word: &&String| known.contains(word.as_str());
    Ok(used.iter().filter(|word| !is_known(word)).collect())
}

fn help(subcommand: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_node-insights"))
        .args(subcommand)
        .arg("--help")
        .output()?;
    Ok(String::from_utf8(output.stdout)?)
}
