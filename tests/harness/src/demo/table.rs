//! The API server's table rendering of a list, laid out as kubectl does.

use anyhow::{Context, Result};
use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde_json::Value;

/// Requests a table instead of a list from the API server.
const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Spaces between two columns, as in kubectl.
const GAP: usize = 3;

/// A list of objects as the API server prints it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Table {
    #[serde(rename = "columnDefinitions", default)]
    columns: Vec<Column>,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Deserialize)]
struct Column {
    name: String,
    /// Columns above 0 are for `-o wide`.
    #[serde(default)]
    priority: i32,
}

#[derive(Debug, Clone, Deserialize)]
struct Row {
    cells: Vec<Value>,
}

impl Table {
    /// Fetches the table of the objects at `path`, such as `/apis/group/version/plural`.
    pub(super) async fn fetch(client: &Client, path: &str) -> Result<Self> {
        let mut request = Request::new(path).list(&ListParams::default())?;
        request.headers_mut().insert("accept", ACCEPT.parse()?);
        let text = client.request_text(request).await?;
        serde_json::from_str(&text).with_context(|| format!("Reading the table of {path}"))
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The cells of a column, by row; empty when there is no such column.
    pub(super) fn cells(&self, column: &str) -> Vec<String> {
        let named = |candidate: &Column| candidate.name.eq_ignore_ascii_case(column);
        let Some(index) = self.columns.iter().position(named) else {
            return Vec::new();
        };
        self.rows
            .iter()
            .map(|row| text(row.cells.get(index)))
            .collect()
    }

    /// The lines that kubectl would print: the heading and one line per row.
    pub(super) fn lines(&self) -> Vec<String> {
        let shown = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.priority == 0);
        let shown: Vec<usize> = shown.map(|(index, _)| index).collect();
        let heading = shown
            .iter()
            .map(|index| self.columns[*index].name.to_uppercase())
            .collect();
        let rows = self.rows.iter().map(|row| {
            shown
                .iter()
                .map(|index| text(row.cells.get(*index)))
                .collect()
        });
        let grid: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
        let width = |column: usize| {
            grid.iter()
                .map(|cells| cells[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..shown.len()).map(width).collect();
        let line = |cells: &Vec<String>| {
            let padded = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<0$}", width + GAP));
            padded.collect::<String>().trim_end().to_owned()
        };
        grid.iter().map(line).collect()
    }
}

/// A cell as kubectl prints it: its first line, empty for null.
fn text(cell: Option<&Value>) -> String {
    let text = match cell {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_laid_out_as_kubectl_does_without_the_wide_columns() {
        let table: Table = serde_json::from_value(serde_json::json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Secret", "priority": 1}, {"name": "Phase", "priority": 0}, {"name": "Count"}],
            "rows": [
                {"cells": ["worker-1", "x", "Draining\nsecond line", 3]},
                {"cells": ["a", "x", null, 12]},
            ],
        }))
        .unwrap();
        assert_eq!(
            table.lines(),
            [
                "NAME       PHASE      COUNT",
                "worker-1   Draining   3",
                "a                     12"
            ]
        );
        assert_eq!(table.cells("phase"), ["Draining", ""]);
        assert!(table.cells("absent").is_empty());
    }
}
