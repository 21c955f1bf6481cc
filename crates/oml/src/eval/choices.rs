//! Two-choice questions in the form of PIQA: one JSON object per line, `{"goal", "sol1", "sol2", "label"}`, where label 0 says
//! that sol1 is right and 1 that sol2 is; PIQA itself keeps the labels in a second file, one per line.
//!
//! Source of the form: "PIQA: Reasoning about Physical Commonsense in Natural Language" (arXiv 1911.11641).

use std::path::Path;

use anyhow::{Context as _, bail};
use oml_model::eval::Choice;
use serde::Deserialize;

use crate::files;

const FILE_LIMIT: usize = 64 << 20;
const MOST: usize = 100_000;

/// Questions, and how to call them.
pub(crate) struct Choices {
    pub(crate) name: String,
    pub(crate) questions: Vec<Choice>,
}

#[derive(Deserialize)]
struct Line {
    goal: String,
    sol1: String,
    sol2: String,
    label: Option<usize>,
}

impl Choices {
    /// Our own questions, written for this purpose.
    ///
    /// # Errors
    /// Never, as a test shows.
    pub(crate) fn built_in() -> anyhow::Result<Self> {
        let questions =
            parse(include_str!("builtin/choices.jsonl"), None).context("the built-in questions")?;
        Ok(Self {
            name: "built-in questions".to_owned(),
            questions,
        })
    }

    /// The questions of a file, with their labels in it or in a file of their own.
    ///
    /// # Errors
    /// When a file cannot be read or a line is not of the form.
    pub(crate) fn read(path: &Path, labels: Option<&Path>) -> anyhow::Result<Self> {
        let text = files::read_text(path, FILE_LIMIT)?;
        let labels = labels
            .map(|path| files::read_text(path, FILE_LIMIT))
            .transpose()?;
        let questions = parse(&text, labels.as_deref())
            .with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().map_or_else(
            || path.display().to_string(),
            |n| n.to_string_lossy().into_owned(),
        );
        Ok(Self { name, questions })
    }

    /// The files that are named, or the built-in questions.
    ///
    /// # Errors
    /// As [`Choices::read`].
    pub(crate) fn named(path: Option<&Path>, labels: Option<&Path>) -> anyhow::Result<Self> {
        path.map_or_else(Self::built_in, |path| Self::read(path, labels))
    }
}

fn parse(text: &str, labels: Option<&str>) -> anyhow::Result<Vec<Choice>> {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.is_empty() || lines.len() > MOST {
        bail!("questions: expected 1 to {MOST}, got {}", lines.len());
    }
    let labels: Option<Vec<&str>> = labels.map(|text| {
        text.lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect()
    });
    if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != lines.len()) {
        bail!(
            "labels: expected {}, one per question, got {}",
            lines.len(),
            labels.len()
        );
    }
    let parse_one = |(i, line): (usize, &&str)| {
        let number = i + 1;
        let Line {
            goal,
            sol1,
            sol2,
            label,
        } = serde_json::from_str(line).with_context(|| format!("question {number}"))?;
        let label = match &labels {
            Some(labels) => labels[i]
                .parse()
                .with_context(|| format!("label {number}: expected 0 or 1, got {}", labels[i]))?,
            None => label
                .with_context(|| format!("question {number}: label: expected 0 or 1, got none"))?,
        };
        if label > 1 {
            bail!("label {number}: expected 0 or 1, got {label}");
        }
        if sol1.is_empty() || sol2.is_empty() {
            bail!("question {number}: expected two solutions, got an empty one");
        }
        Ok(Choice {
            goal,
            solutions: [sol1, sol2],
            label,
        })
    };
    lines.iter().enumerate().map(parse_one).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_built_in_questions_are_distinct_and_balanced() {
        let questions = Choices::built_in().unwrap().questions;
        assert!(questions.len() >= 120, "{}", questions.len());
        assert_eq!(
            questions
                .iter()
                .map(|q| &q.goal)
                .collect::<HashSet<_>>()
                .len(),
            questions.len()
        );
        assert_eq!(
            2 * questions.iter().filter(|q| q.label == 0).count(),
            questions.len()
        );
        assert!(questions.iter().all(|q| q.solutions[0] != q.solutions[1]));
        // The longer answer must not give the right one away.
        let longer = questions
            .iter()
            .filter(|q| q.solutions[q.label].len() > q.solutions[1 - q.label].len())
            .count();
        assert!(
            (0.4..0.6).contains(&(longer as f64 / questions.len() as f64)),
            "{longer}"
        );
    }

    #[test]
    fn labels_come_from_either_place() {
        let line = r#"{"goal":"g","sol1":"a","sol2":"b"}"#;
        assert_eq!(parse(line, Some("1\n")).unwrap()[0].label, 1);
        assert_eq!(
            parse(&line.replace('}', r#","label":0}"#), None).unwrap()[0].label,
            0
        );
    }

    #[test]
    fn faults_name_the_line() {
        let line = r#"{"goal":"g","sol1":"a","sol2":"b"}"#;
        for (text, labels, fault) in [
            ("", None, "questions: expected 1 to 100000, got 0"),
            (line, None, "question 1: label: expected 0 or 1, got none"),
            (line, Some("2"), "label 1: expected 0 or 1, got 2"),
            (line, Some("x"), "label 1: expected 0 or 1, got x"),
            (
                line,
                Some("0\n1"),
                "labels: expected 1, one per question, got 2",
            ),
            ("{\"goal\":1}", None, "question 1"),
        ] {
            assert_eq!(parse(text, labels).unwrap_err().to_string(), fault);
        }
    }
}
