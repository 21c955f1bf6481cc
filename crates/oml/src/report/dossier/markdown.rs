//! A report as Markdown (CommonMark with tables), for issues and mails.
//!
//! What strangers wrote can start no heading, list, link, picture, mention or HTML: every sign that Markdown knows is escaped, and what has
//! to be copied exactly stands in a code span whose fence is longer than any run of backticks inside.

use std::fmt::Write as _;

use super::Dossier;
use super::layout::{Block, Cell, Table, sections};

/// The whole text.
pub(super) fn render(dossier: &Dossier) -> String {
    let mut out = String::new();
    let verdict = &dossier.verdict;
    let _ = writeln!(
        out,
        "# {}\n\n{}\n",
        line(&dossier.title),
        line(&dossier.subtitle)
    );
    let _ = writeln!(
        out,
        "> **{}.** {}\n",
        line(&verdict.word),
        line(&verdict.sentence)
    );
    for (heading, lines) in [
        ("What this shows", &verdict.shows),
        ("What this does not show", &verdict.does_not_show),
    ] {
        let _ = writeln!(out, "## {heading}\n");
        for one in lines {
            let _ = writeln!(out, "- {}", line(one));
        }
        out.push('\n');
    }
    if !dossier.headlines.is_empty() {
        let _ = writeln!(out, "| number | value | basis |\n|---|---|---|");
    }
    for headline in &dossier.headlines {
        let _ = writeln!(
            out,
            "| {} | **{}** | {} |",
            line(&headline.label),
            line(&headline.value),
            line(&headline.basis)
        );
    }
    for section in sections(dossier) {
        let _ = writeln!(out, "\n## {}", section.heading);
        if !section.lead.is_empty() {
            let _ = writeln!(out, "\n{}", line(&section.lead));
        }
        for block in &section.blocks {
            out.push('\n');
            match block {
                Block::Figures(figures) => {
                    for figure in figures {
                        let _ =
                            writeln!(out, "*{}:* {}\n", line(&figure.title), line(&figure.words));
                    }
                }
                Block::Table(table) => write_table(&mut out, table),
                Block::Steps(steps) => {
                    for (place, step) in steps.iter().enumerate() {
                        let _ = writeln!(out, "{}. {}", place + 1, line(&step.text));
                        if let Some(command) = &step.command {
                            let fence = "`".repeat(longest_run(command).max(2) + 1);
                            let indented = command.replace('\n', "\n   ");
                            let _ = writeln!(out, "   {fence}sh\n   {indented}\n   {fence}");
                        }
                    }
                }
                Block::Terms(terms) => {
                    for term in terms {
                        let _ = writeln!(out, "- **{}**: {}", line(term.name), line(term.meaning));
                    }
                }
            }
        }
    }
    let _ = writeln!(out, "\n---\n\n{}", line(&dossier.made_by));
    out
}

fn write_table(out: &mut String, table: &Table) {
    let _ = writeln!(out, "{}:\n", line(&table.caption));
    // A bar says nothing that the numbers beside it do not.
    let kept: Vec<usize> = (0..table.head.len())
        .filter(|&column| {
            let cell = table.rows.first().and_then(|row| row.get(column));
            !matches!(cell, Some(Cell::Share(_)))
        })
        .collect();
    let head: Vec<String> = kept
        .iter()
        .map(|&column| line(table.head[column]))
        .collect();
    let _ = writeln!(
        out,
        "| {} |\n|{}",
        head.join(" | "),
        "---|".repeat(kept.len())
    );
    for row in &table.rows {
        let cells: Vec<String> = kept
            .iter()
            .filter_map(|&column| row.get(column))
            .map(|cell| match cell {
                Cell::Words(text) | Cell::Number(text) | Cell::Mark(text, _) => line(text),
                // A bar ends a cell even inside code.
                Cell::Code(text) => code(text).replace('|', "\\|"),
                Cell::Share(_) => String::new(),
            })
            .collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
}

/// Text as one line that means only itself.
pub(super) fn line(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            // Code hosts notify whom they see named, and link what they see numbered; not inside code.
            '@' | '#' => {
                let _ = write!(out, "`{c}`");
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '!' | '|' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            // Without this `https://…` becomes a link.
            ':' if letters.peek() == Some(&'/') => out.push_str("\\:"),
            c => out.push(c),
        }
    }
    let out = out.replace("www.", "www\\.");
    // What would start a list, a rule or a heading at the start of a line.
    let number = out.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = out.len() - number.len();
    match (number.chars().next(), number.chars().nth(1)) {
        (Some('-' | '+' | '='), _) if digits == 0 => format!("\\{out}"),
        (Some('.' | ')'), None | Some(' ')) if digits > 0 => {
            format!("{}\\{number}", &out[..digits])
        }
        _ => out,
    }
}

/// A code span that holds `text`.
fn code(text: &str) -> String {
    let fence = "`".repeat(longest_run(text) + 1);
    let text = text.replace(['\n', '\r'], " ");
    // A space keeps a backtick at an end apart from the fence; Markdown takes one away on each side.
    let pad = if text.starts_with('`') || text.ends_with('`') {
        " "
    } else {
        ""
    };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// The longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}
