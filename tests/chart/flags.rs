//! What the chart passes to the operator, the operator knows.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::Result;

use crate::helm::{Case, Helm, Major, objects, one};

#[test]
fn every_flag_and_subcommand_of_the_chart_is_one_of_the_operator() -> Result<()> {
    let mut used = BTreeSet::new();
    for case in Case::accepted()? {
        let rendered = Helm::offline(Major::Four)?.template(&["--values", &case.path])?;
        let rendered = objects(&rendered)?;
        let deployment = one(&rendered, "Deployment", "");
        let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        let mut args = args
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| arg.as_str().unwrap());
        assert_eq!(args.next(), Some("run"));
        used.extend(args.map(|arg| arg.split('=').next().unwrap().to_owned()));
        let doctor = one(&rendered, "Pod", "-doctor");
        let args = doctor["spec"]["containers"][0]["args"].as_array().unwrap();
        used.insert(args[0].as_str().unwrap().to_owned());
    }
    assert!(used.len() > 12, "{used:?}");
    let known = help(&[])? + &help(&["run"])?;
    let known: BTreeSet<&str> = known
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .collect();
    let unknown: Vec<&String> = used
        .iter()
        .filter(|word| !known.contains(word.as_str()))
        .collect();
    assert_eq!(unknown, Vec::<&String>::new());
    Ok(())
}

fn help(subcommand: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_node-insights"))
        .args(subcommand)
        .arg("--help")
        .output()?;
    Ok(String::from_utf8(output.stdout)?)
}
