//! The memory plan of a run: printed before it trains, and refused where the machine does not have it.

use oml_core::prompt::Prompt;
use oml_model::train::{MemoryPlan, RunSize};

use super::super::workbench::Opened;
use super::training::Job;
use crate::available_memory;
use crate::error::WithHint as _;
use crate::printer::Printer;

/// Prints the plan, and gives the bytes at the peak.
///
/// # Errors
/// When the run does not fit, or the recipe cannot be followed on this model.
pub(super) fn plan(
    job: &Job<'_>,
    base: &Opened,
    prompts: &[Prompt],
    printer: &Printer,
) -> anyhow::Result<u64> {
    let run = run_size(job, base, prompts)?;
    let (checkpoint, recipe) = (&base.checkpoint, job.recipe);
    let plan = MemoryPlan::new(checkpoint, recipe, &run)?;
    let available = available_memory::bytes();
    printer.note(table(&plan, available));
    let Some(available) = available else {
        return Ok(plan.peak());
    };
    let fits = plan.ensure_fits(available);
    if fits.is_ok() {
        return Ok(plan.peak());
    }
    let changes = MemoryPlan::changes_that_fit(checkpoint, recipe, &run, available)?;
    fits.hint(if changes.is_empty() {
        "No recipe of this model fits: free memory, or use a larger machine.".to_owned()
    } else {
        format!(
            "Each of these changes of the recipe would fit: {}.",
            changes.join("; ")
        )
    })?;
    Ok(plan.peak())
}

fn run_size(job: &Job<'_>, base: &Opened, prompts: &[Prompt]) -> anyhow::Result<RunSize> {
    let mut size = RunSize {
        isa: job.engine.isa(),
        longest: 0,
        response: 0,
        items: 0,
    };
    let mut longest = None;
    for fingerprint in job.set.fingerprints() {
        for response in &fingerprint.responses {
            let whole = fingerprint.query_ids.len() + response.ids.len();
            if whole > size.longest {
                (size.longest, longest) = (whole, Some(fingerprint));
            }
            size.response = size.response.max(response.ids.len());
            size.items += 1;
        }
    }
    let Some(longest) = longest.filter(|_| job.recipe.augment > 0) else {
        return Ok(size);
    };
    size.items *= 1 + job.recipe.augment;
    size.longest += job.recipe.augment_padding;
    for prompt in prompts {
        if base.tokenizer.takes(prompt) {
            let prompted = base.tokenizer.prompted(prompt, &longest.query)?;
            size.longest = size.longest.max(prompted.len() + size.response);
        }
    }
    Ok(size)
}

fn table(plan: &MemoryPlan, available: Option<u64>) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let mut text = "Memory this run needs at its peak, in GiB:".to_owned();
    for part in &plan.parts {
        text += &format!("\n  {:<34}{:>7.2}", part.name, gib(part.bytes));
    }
    text += &format!("\n  {:<34}{:>7.2}", "in all", gib(plan.peak()));
    if let Some(available) = available {
        text += &format!(" of {:.2} available", gib(available));
    }
    text
}

#[cfg(test)]
mod tests {
    use oml_model::train::MemoryPart;

    use super::*;

    #[test]
    fn one_line_per_part() {
        let part = |name, bytes| MemoryPart { name, bytes };
        let plan = MemoryPlan {
            parts: vec![part("optimizer", 3 << 30), part("gradients", 3 << 29)],
        };
        insta::assert_snapshot!(table(&plan, Some(5 << 30)), @"
        Memory this run needs at its peak, in GiB:
          optimizer                            3.00
          gradients                            1.50
          in all                               4.50 of 5.00 available
        ");
        assert!(table(&plan, None).ends_with(" 4.50"));
    }
}
