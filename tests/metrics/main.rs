//! Metrics as Prometheus sees them: the reference, the alert rules and the dashboard agree with the
//! program; a real scrape of a real daemon is well-formed, and no counter goes back when processes die.
#![deny(unsafe_code)]

mod certificate;
mod prometheus;
mod scrape;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use camring::serve::metrics::ALL;
use serde_json::Value;

const REFERENCE: &str = "docs/reference/metrics.md";
const RULES: &str = "prometheus/alerts.yml";
const DASHBOARD: &str = "grafana/camring.json";
/// Between these, the reference is this program's table.
const MARKS: (&str, &str) = ("<!-- the table begins -->\n", "<!-- the table ends -->\n");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The folder that promtool and prometheus are in.
#[track_caller]
fn tools() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prometheus");
    let found = Command::new(root().join("scripts/promtool.sh"))
        .arg(folder)
        .output()
        .expect("bash");
    let errors = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success(), "{errors}");
    PathBuf::from(String::from_utf8(found.stdout).expect("UTF-8").trim())
}

/// Runs promtool in the repository; what it printed.
#[track_caller]
fn promtool(arguments: &[&str]) -> String {
    let ran = Command::new(tools().join("promtool"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("promtool starts");
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8(said).expect("UTF-8");
    assert!(ran.status.success(), "promtool {arguments:?}: {said}");
    said
}

#[test]
fn the_reference_is_the_table_of_the_program() {
    let rows: String = ALL
        .iter()
        .map(|metric| {
            let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
            let (name, kind, unit) = (metric.name(), metric.kind, metric.unit);
            let (labels, help) = (labels.join(", "), metric.help);
            format!("| `{name}` | {kind} | {unit} | {labels} | {help} |\n")
        })
        .collect();
    let table =
        format!("| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n{rows}");
    let document = read(REFERENCE);
    let (before, rest) = document.split_once(MARKS.0).expect("the table");
    let (written, after) = rest.split_once(MARKS.1).expect("the table's end");
    if written != table && std::env::var_os("CAMRING_BLESS").is_some() {
        let text = [before, MARKS.0, &table, MARKS.1, after].concat();
        fs::write(root().join(REFERENCE), text).expect("the reference can be written");
        return;
    }
    assert_eq!(
        written, table,
        "docs/reference/metrics.md is not what the program has: CAMRING_BLESS=1 writes it anew"
    );
}

/// Every name that can stand in a query, with the metric's labels.
fn queryable() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut names = BTreeMap::new();
    for metric in ALL {
        let labels: BTreeSet<_> = metric.labels.iter().copied().collect();
        if metric.kind == "histogram" {
            for end in ["_bucket", "_sum", "_count"] {
                let mut labels = labels.clone();
                labels.extend((end == "_bucket").then_some("le"));
                names.insert(metric.name() + end, labels);
            }
        } else {
            names.insert(metric.name(), labels);
        }
    }
    names
}

/// The metrics that a query names, with the labels that it selects by.
fn selectors(query: &str) -> Vec<(String, Vec<String>)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest
        .find("camring_")
        .into_iter()
        .chain(rest.find("process_"))
        .min()
    {
        rest = &rest[start..];
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            let (matchers, _) = inside.split_once('}').expect("a closing brace");
            for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
                let end = matcher.find(|c| !word(c)).expect("an operator");
                labels.push(matcher[..end].trim().to_owned());
            }
        }
        found.push((name, labels));
    }
    found
}

#[track_caller]
fn check(query: &str, names: &BTreeMap<String, BTreeSet<&'static str>>) -> usize {
    let found = selectors(query);
    for (name, labels) in &found {
        let known = names.get(name);
        let known = known.unwrap_or_else(|| panic!("{name} does not exist: {query}"));
        for label in labels {
            let target = ["instance", "job"].contains(&label.as_str());
            assert!(
                target || known.contains(label.as_str()),
                "{name} has no {label}: {query}"
            );
        }
    }
    found.len()
}

/// All strings under keys of this name.
fn strings<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    value => strings(value, key, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| strings(value, key, found)),
        _ => {}
    }
}

/// The dashboard's queries.
fn dashboard_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let mut found = Vec::new();
    strings(&dashboard["panels"], "expr", &mut found);
    assert!(found.len() > 20, "{found:?}");
    found.into_iter().map(str::to_owned).collect()
}

#[test]
fn rules_and_dashboard_name_only_what_there_is() {
    let names = queryable();
    // A name must be found in each query, or this test would pass over what it cannot read.
    for query in dashboard_queries() {
        assert!(check(&query, &names) > 0, "{query}");
    }
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let mut variables = Vec::new();
    strings(&dashboard["templating"], "definition", &mut variables);
    assert!(variables.len() >= 2, "{variables:?}");
    for variable in variables {
        check(variable, &names);
    }
    let rules = read(RULES);
    assert!(check(&rules, &names) >= rules.matches("- alert:").count());
}

#[test]
fn each_alert_is_tested_and_explained() {
    let rules = read(RULES);
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() >= 15, "{alerts:?}");
    let (tests, guide) = (
        read("prometheus/alerts_test.yml"),
        read("docs/guide/monitor.md"),
    );
    for alert in &alerts {
        let tested = format!("alertname: {alert}\n");
        // Once where it fires and once where it must not.
        assert!(
            tests.matches(&tested).count() >= 2,
            "{alert} is not tested both ways"
        );
        assert!(
            guide.contains(&format!("`{alert}`")),
            "{alert} is not in the guide"
        );
    }
    let said = promtool(&["check", "rules", RULES]);
    assert!(
        said.contains(&format!("{} rules found", alerts.len())),
        "{said}"
    );
    promtool(&["test", "rules", "prometheus/alerts_test.yml"]);
}
