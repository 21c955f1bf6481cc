//! The one place that writes to the terminal: results on standard output, everything else on standard error.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::error::{ExitStatus, Hinted};

/// Bytes of each cause that are printed.
const CAUSE_LIMIT: usize = 1024;

/// Writes results, notes, progress and errors as the flags `--json` and `--quiet` ask.
#[derive(Clone)]
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    progress: MultiProgress,
}

impl Printer {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Self {
            json,
            quiet,
            progress: MultiProgress::with_draw_target(target),
        }
    }

    /// Prints what the command found, as one JSON object with `--json` and as text without, and says "yes".
    pub(crate) fn result(
        &self,
        json: &impl Serialize,
        text: &impl fmt::Display,
    ) -> anyhow::Result<ExitStatus> {
        let line = if self.json {
            serde_json::to_string_pretty(json).context("cannot write the result as JSON")?
        } else {
            text.to_string()
        };
        self.print(format!("{}\n", line.trim_end()).as_bytes())
    }

    /// Prints raw text on standard output (completions, exports).
    pub(crate) fn raw(&self, bytes: &[u8]) -> anyhow::Result<ExitStatus> {
        self.print(bytes)
    }

    /// A reader that closed standard output early (`oml … | head`) is no fault, and changes nothing about how the command ends.
    fn print(&self, bytes: &[u8]) -> anyhow::Result<ExitStatus> {
        let printed = self.progress.suspend(|| {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        });
        match printed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("cannot write to standard output")
            }
            _ => Ok(ExitStatus::Yes),
        }
    }

    /// One line about what is going on.
    pub(crate) fn note(&self, line: impl fmt::Display) {
        if !self.quiet {
            self.line(&printable(&line.to_string()));
        }
    }

    /// A heading for a step of a longer command.
    pub(crate) fn heading(&self, line: impl fmt::Display) {
        if !self.quiet {
            self.line(&format!("\n{}", console::style(line).for_stderr().bold()));
        }
    }

    /// Something the user should know although the command goes on.
    pub(crate) fn warning(&self, line: impl fmt::Display) {
        self.line(&format!(
            "{} {}",
            console::style("warning:").for_stderr().yellow().bold(),
            printable(&line.to_string())
        ));
    }

    /// True when bars are drawn: a command then need not print lines of progress.
    pub(crate) fn draws_progress(&self) -> bool {
        !self.progress.is_hidden()
    }

    /// The reason why the command ends, its causes, and its hint.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let mut text = format!(
            "{} {}",
            console::style("error:").for_stderr().red().bold(),
            cut(&printable(&error.to_string()))
        );
        let mut last = error.to_string();
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            // Libraries often repeat their cause in their own message.
            if !last.contains(&cause) {
                let _ = write!(text, "\n  caused by: {}", cut(&printable(&cause)));
            }
            last = cause;
        }
        let hint = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Hinted>())
            .map(Hinted::hint);
        if let Some(hint) = hint {
            let _ = write!(
                text,
                "\n{} {}",
                console::style("hint:").for_stderr().cyan().bold(),
                cut(&printable(hint))
            );
        }
        self.line(&text);
    }

    /// A bar for `length` units of work; the message carries what matters now.
    pub(crate) fn bar(&self, length: u64, name: &str) -> ProgressBar {
        let bar = self.progress.add(ProgressBar::new(length));
        bar.set_style(style("{prefix:>10} {bar:28.cyan/dim} {pos}/{len}  {msg}"));
        bar.set_prefix(name.to_owned());
        bar
    }

    /// A bar for work of which only the share is of interest.
    pub(crate) fn percent_bar(&self, length: u64, name: &str) -> ProgressBar {
        let bar = self.bar(length, name);
        bar.set_style(style("{prefix:>10} {bar:28.cyan/dim} {percent}%  {msg}"));
        bar
    }

    /// A moving sign for work whose length is not known.
    pub(crate) fn spinner(&self, message: impl Into<String>) -> ProgressBar {
        let bar = self.progress.add(ProgressBar::new_spinner());
        bar.set_style(style("{spinner:.cyan} {msg} {elapsed:.dim}"));
        bar.set_message(message.into());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    fn line(&self, text: &str) {
        // Standard error may be closed; there is nowhere left to say so.
        self.progress.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }
}

/// Text that may come from a stranger's file, without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// At most [`CAUSE_LIMIT`] bytes of a text.
fn cut(text: &str) -> String {
    if text.len() <= CAUSE_LIMIT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(CAUSE_LIMIT);
    format!("{} …", &text[..end])
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_by_a_file() {
        assert_eq!(
            printable("a\u{1b}]0;b\u{7}\r\u{9b}\n\u{e4}"),
            "a\u{fffd}]0;b\u{fffd}\u{fffd}\u{fffd}\n\u{e4}"
        );
    }

    #[test]
    fn a_long_cause_is_cut_between_letters() {
        let long = "ä".repeat(CAUSE_LIMIT);
        let shown = cut(&format!("a{long}"));
        assert_eq!(shown.len(), CAUSE_LIMIT - 1 + " …".len());
        assert_eq!(cut("short"), "short");
    }
}
