//! The rules of the Dockerfile and of its build context, checked without a container engine.
//!
//! `make image-check` starts the resulting image.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{read, root};

/// Labels that document the origin of an image.
const LABELS: [&str; 7] = [
    "title",
    "description",
    "licenses",
    "version",
    "revision",
    "created",
    "base.name",
];

/// An instruction with all its lines.
struct Instruction {
    word: String,
    rest: String,
}

#[test]
fn the_dockerfile_follows_its_rules() {
    assert_eq!(
        violations(&read("Dockerfile"), &read("Cargo.toml")),
        Vec::<String>::new()
    );
}

#[test]
fn a_violation_of_each_rule_is_found() {
    let (dockerfile, manifest) = (read("Dockerfile"), read("Cargo.toml"));
    for (right, wrong, found) in [
        (
            "RUST_VERSION=1.95.0",
            "RUST_VERSION=1.95",
            "not an exact version",
        ),
        ("RUST_VERSION=1.95.0", "RUST_VERSION=1.94.1", "rust-version"),
        (
            "RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot",
            "RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:latest",
            "is not pinned",
        ),
        (
            "RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot",
            "RUNTIME_IMAGE=gcr.io/distroless/cc-debian12",
            "is not pinned",
        ),
        (
            "RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot",
            "RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot",
            "another Debian",
        ),
        ("${RUST_DIGEST:+@$RUST_DIGEST}", "", "takes no digest"),
        (
            "RUNTIME_DIGEST=\n",
            "RUNTIME_DIGEST=sha256:12\n",
            "is not a digest",
        ),
        ("USER 65532:65532", "USER nonroot", "not numeric"),
        ("USER 65532:65532", "USER 0:0", "is root"),
        ("USER 65532:65532\n", "", "no USER"),
        ("[\"/node-insights\"]", "node-insights", "ENTRYPOINT"),
        (
            "USER 65532",
            "COPY --from=build /etc /etc\nUSER 65532",
            "more than the binary",
        ),
        (
            "USER 65532",
            "RUN [\"/x\"]\nUSER 65532",
            "more than the binary",
        ),
        ("--locked ", "", "--locked"),
        ("cargo build", "cargo install x && cargo build", "fetches"),
        ("set -eu\ntarget", "curl x\ntarget", "fetches"),
        ("VERSION=0.1.0", "VERSION=0.0.9", "Cargo.toml has version"),
        ("image.revision=", "image.rev=", "no label"),
        (
            "# The container image",
            "# syntax=docker/dockerfile:1\n#",
            "parser",
        ),
    ] {
        assert!(dockerfile.contains(right), "{right}");
        let broken = dockerfile.replacen(right, wrong, 1);
        let violations = violations(&broken, &manifest);
        assert!(
            violations.iter().any(|violation| violation.contains(found)),
            "{wrong:?}: {violations:?}"
        );
    }
}

#[test]
fn the_build_context_has_all_files_that_the_manifest_names() {
    let ignored = read(".dockerignore");
    let rules: Vec<&str> = ignored
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert_eq!(rules[0], "*", "other files would be sent too");
    let context = tempfile::tempdir().unwrap();
    for rule in &rules[1..] {
        let path = rule
            .strip_prefix('!')
            .unwrap_or_else(|| panic!("{rule}: only inclusions are expected"));
        copy(&root().join(path), &context.path().join(path));
    }
    // Like any build, this reads the whole manifest; it fetches nothing, as these tests have the same dependencies.
    let output = Command::new(env!("CARGO"))
        .args(["fetch", "--locked", "--offline", "--target", &host()])
        .current_dir(context.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the image cannot be built: {stderr}"
    );
}

/// The violations in a Dockerfile.
fn violations(dockerfile: &str, manifest: &str) -> Vec<String> {
    let instructions = instructions(dockerfile);
    let mut found = bases(&instructions, manifest);
    if dockerfile.starts_with("# syntax") {
        found.push("an unpinned parser would be fetched".to_owned());
    }
    let last = instructions
        .iter()
        .rposition(|instruction| instruction.word == "FROM")
        .expect("no FROM");
    let (build, image) = instructions.split_at(last);
    found.extend(compiling(build));
    found.extend(shipped(image, manifest));
    found
}

fn bases(instructions: &[Instruction], manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let rust = default_of(instructions, "RUST_VERSION");
    let wanted = value(manifest, "rust-version");
    if rust.split('.').count() != 3 {
        found.push(format!("RUST_VERSION {rust} is not an exact version"));
    }
    if !rust.starts_with(&format!("{wanted}.")) {
        found.push(format!(
            "RUST_VERSION is {rust}, Cargo.toml has rust-version {wanted}"
        ));
    }
    for name in ["RUST_DIGEST", "RUNTIME_DIGEST"] {
        let digest = default_of(instructions, name);
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        let is_digest = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digest.is_empty() && !is_digest {
            found.push(format!("{name}: {digest} is not a digest"));
        }
    }
    let mut debians = Vec::new();
    for from in instructions.iter().filter(|from| from.word == "FROM") {
        let image = from.rest.split(' ').find(|word| !word.starts_with("--"));
        let image = image.unwrap_or_default();
        if !image.contains("_DIGEST:+@$") {
            found.push(format!("{image} takes no digest"));
        }
        let image = image
            .split("${RUST_DIGEST:")
            .next()
            .and_then(|image| image.split("${RUNTIME_DIGEST:").next())
            .unwrap_or_default()
            .replace("${RUST_VERSION}", &rust)
            .replace(
                "${RUNTIME_IMAGE}",
                &default_of(instructions, "RUNTIME_IMAGE"),
            );
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        if ["", "latest"].contains(&tag) {
            found.push(format!("{image} is not pinned"));
        }
        debians.push(image.contains("bookworm") || image.contains("debian12"));
    }
    if debians.contains(&true) && debians.contains(&false) {
        found.push("the binary is linked with the glibc of another Debian".to_owned());
    }
    found
}

fn compiling(build: &[Instruction]) -> Vec<String> {
    let mut found = Vec::new();
    let text: Vec<&str> = build
        .iter()
        .map(|instruction| instruction.rest.as_str())
        .collect();
    let text = text.join("\n");
    for flag in ["--release", "--locked", "--bin node-insights"] {
        let is_given = |line: &str| line.contains("cargo build") && line.contains(flag);
        if !text.lines().any(is_given) {
            found.push(format!("cargo build without {flag}"));
        }
    }
    for fetches in ["curl ", "wget ", "cargo install", "git clone"] {
        if text.contains(fetches) {
            found.push(format!("{fetches}fetches something unpinned"));
        }
    }
    found
}

fn shipped(image: &[Instruction], manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let version = value(manifest, "version");
    if default_of(image, "VERSION") != version {
        found.push(format!("VERSION: Cargo.toml has version {version}"));
    }
    let labels: String = image
        .iter()
        .filter(|instruction| instruction.word == "LABEL")
        .map(|instruction| instruction.rest.as_str())
        .collect();
    for label in LABELS {
        if !labels.contains(&format!("org.opencontainers.image.{label}=")) {
            found.push(format!("no label {label}"));
        }
    }
    let mut has_user = false;
    for Instruction { word, rest } in image {
        match word.as_str() {
            "COPY" if rest == "--from=build /node-insights /node-insights" => {}
            "COPY" | "ADD" | "RUN" => {
                found.push(format!("{word} {rest}: more than the binary"));
            }
            "USER" => {
                has_user = true;
                for id in rest.split(':') {
                    match id.parse::<u32>() {
                        Ok(0) => found.push(format!("USER {rest} is root")),
                        Ok(_) => {}
                        Err(_) => found.push(format!("USER {rest} is not numeric")),
                    }
                }
            }
            "ENTRYPOINT" if rest != "[\"/node-insights\"]" => {
                found.push(format!(
                    "ENTRYPOINT {rest} is not the binary, without a shell"
                ));
            }
            _ => {}
        }
    }
    if !has_user {
        found.push("no USER".to_owned());
    }
    found
}

/// The instructions, with continued lines joined, and each with its script; without comments.
fn instructions(dockerfile: &str) -> Vec<Instruction> {
    let mut found: Vec<Instruction> = Vec::new();
    let mut lines = dockerfile.lines();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut whole = line.to_owned();
        while let Some(head) = whole.strip_suffix('\\') {
            whole = format!("{}{}", head, lines.next().unwrap_or_default());
        }
        if whole.ends_with("<<'SCRIPT'") {
            for line in lines.by_ref().take_while(|line| *line != "SCRIPT") {
                whole.push('\n');
                whole.push_str(line);
            }
        }
        let (word, rest) = whole.split_once(' ').unwrap_or((&whole, ""));
        found.push(Instruction {
            word: word.to_owned(),
            rest: rest.to_owned(),
        });
    }
    found
}

/// The default of an ARG.
fn default_of(instructions: &[Instruction], name: &str) -> String {
    instructions
        .iter()
        .filter(|instruction| instruction.word == "ARG")
        .find_map(|instruction| instruction.rest.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_default()
        .to_owned()
}

/// The first value of this key in a manifest.
fn value(manifest: &str, name: &str) -> String {
    let start = format!("{name} = \"");
    let line = manifest.lines().find_map(|line| line.strip_prefix(&start));
    line.and_then(|line| line.strip_suffix('"'))
        .unwrap_or_else(|| panic!("Cargo.toml has no {name}"))
        .to_owned()
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let host = stdout.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}
