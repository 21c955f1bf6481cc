//! `oml usage`: what was used, summed by licensee, model and day, or call by call.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use oml_core::manifest::hex;
use oml_core::permission::{ModelId, Token};
use oml_core::time_proof::rfc3339;
use oml_server::gateway::{Record, StorePlace, Usage, UsageKey};
use serde::Serialize;

use crate::error::{ExitStatus, WithHint as _};
use crate::printer::Printer;

const DAY: u64 = 86_400;

/// Flags of `oml usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// Where `oml serve` keeps used permissions: a file that it has not open, or postgres://…
    #[arg(long, value_name = "FILE|URL", default_value = "oml-replay.redb")]
    store: String,
    /// What sums are kept apart by, repeatable [default: licensee, model and day]
    #[arg(long, value_enum, value_name = "NAME")]
    by: Vec<By>,
    /// Every call of the evidence window with its permission and receipt, in place of sums
    #[arg(long, conflicts_with = "by")]
    calls: bool,
    /// Print comma-separated values (RFC 4180)
    #[arg(long)]
    csv: bool,
}

/// What sums are kept apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Licensee,
    Model,
    Day,
}

pub(super) fn run(args: &UsageArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let place = StorePlace::new(&args.store);
    if let StorePlace::File(path) = &place {
        let there: anyhow::Result<()> = (|| {
            ensure!(path.exists(), "{}: no such file", path.display());
            Ok(())
        })();
        there.hint("Name the file that `oml serve` was given with --replay-store.")?;
    }
    let read = place.read();
    let (sums, records) =
        read.hint("A running `oml serve` has its file to itself; ask it at its --admin address: /usage, /records.")?;
    if args.calls {
        let calls = records
            .iter()
            .map(call)
            .collect::<anyhow::Result<Vec<_>>>()?;
        let output = Calls { calls };
        return match args.csv {
            true => printer.raw(output.to_string().as_bytes()),
            false => printer.result(&output, &output),
        };
    }
    let output = Sums::new(sums, &args.by);
    match args.csv {
        true => printer.raw(output.csv().as_bytes()),
        false => printer.result(&output, &output),
    }
}

/// One sum; what it is not kept apart by is missing.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Key {
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    licensee: Option<String>,
}

#[derive(Serialize)]
struct Sum {
    #[serde(flatten)]
    key: Key,
    calls: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// In the token's smallest unit; a text, since JSON's numbers end before its range.
    spent: String,
}

#[derive(Serialize)]
struct Sums {
    sums: Vec<Sum>,
}

impl Sums {
    fn new(sums: Vec<(UsageKey, Usage)>, by: &[By]) -> Self {
        let kept = |what| by.is_empty() || by.contains(&what);
        let mut grouped: BTreeMap<Key, Usage> = BTreeMap::new();
        for (key, usage) in sums {
            let day = rfc3339(u64::from(key.day) * DAY);
            let key = Key {
                day: kept(By::Day).then(|| day.chars().take(10).collect()),
                model: kept(By::Model).then(|| ModelId(key.model).to_string()),
                licensee: kept(By::Licensee).then(|| key.licensee().to_string()),
            };
            let sum = grouped.entry(key).or_default();
            sum.calls += usage.calls;
            sum.prompt_tokens += usage.prompt_tokens;
            sum.completion_tokens += usage.completion_tokens;
            sum.spent = sum.spent.saturating_add(usage.spent);
        }
        let sums = grouped.into_iter().map(|(key, sum)| Sum {
            key,
            calls: sum.calls,
            prompt_tokens: sum.prompt_tokens,
            completion_tokens: sum.completion_tokens,
            spent: sum.spent.to_string(),
        });
        Self {
            sums: sums.collect(),
        }
    }

    fn csv(&self) -> String {
        let mut text =
            "day,model,licensee,calls,prompt_tokens,completion_tokens,spent\r\n".to_owned();
        for sum in &self.sums {
            let key = &sum.key;
            for word in [&key.day, &key.model, &key.licensee] {
                text.push_str(word.as_deref().unwrap_or_default());
                text.push(',');
            }
            let Sum {
                calls,
                prompt_tokens,
                completion_tokens,
                spent,
                ..
            } = sum;
            text.push_str(&format!(
                "{calls},{prompt_tokens},{completion_tokens},{spent}\r\n"
            ));
        }
        text
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sums.is_empty() {
            return writeln!(f, "no answers with a receipt yet");
        }
        for sum in &self.sums {
            let key = &sum.key;
            let words = [&key.day, &key.licensee, &key.model];
            let words: Vec<&str> = words.iter().filter_map(|word| word.as_deref()).collect();
            writeln!(
                f,
                "{}{}{} calls, {} + {} tokens, {} spent",
                words.join(" "),
                if words.is_empty() { "" } else { ": " },
                sum.calls,
                sum.prompt_tokens,
                sum.completion_tokens,
                sum.spent
            )?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct OneCall {
    time: String,
    permission_id: String,
    model: String,
    licensee: String,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    permission: String,
    receipt: Option<String>,
}

#[derive(Serialize)]
struct Calls {
    calls: Vec<OneCall>,
}

fn call(record: &Record) -> anyhow::Result<OneCall> {
    let token = Token::from_text(&record.token).context("a stored permission")?;
    let (receipt, tokens) = record.receipt.clone().unzip();
    Ok(OneCall {
        time: rfc3339(record.time),
        permission_id: format!("0x{}", hex(&token.id())),
        model: token.permission.model.to_string(),
        licensee: token.permission.licensee.to_string(),
        prompt_tokens: tokens.map(|[prompt, _]| prompt),
        completion_tokens: tokens.map(|[_, completion]| completion),
        permission: record.token.clone(),
        receipt,
    })
}

impl fmt::Display for Calls {
    /// Comma-separated values, which every reader takes; none of the values holds a comma.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "time,permission_id,model,licensee,prompt_tokens,completion_tokens,permission,receipt\r\n"
        )?;
        let number = |count: Option<u64>| count.map_or_else(String::new, |n| n.to_string());
        for call in &self.calls {
            write!(
                f,
                "{},{},{},{},{},{},{},{}\r\n",
                call.time,
                call.permission_id,
                call.model,
                call.licensee,
                number(call.prompt_tokens),
                number(call.completion_tokens),
                call.permission,
                call.receipt.as_deref().unwrap_or_default()
            )?;
        }
        Ok(())
    }
}
