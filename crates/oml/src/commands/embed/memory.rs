//! The memory plan of a run: printed before it trains, and refused where the machine does not have it.

use oml_core::fingerprint::FingerprintSet;
use oml_model::checkpoint::Checkpoint;
use oml_model::engine::Engine;
use oml_model::train::{MemoryPlan, Recipe, RunSize};

use crate::available_memory;
use crate::error::WithHint as _;
use crate::printer::Printer;

/// Prints the plan.
///
/// # Errors
/// When the run does not fit, or the recipe cannot be followed on this model.
pub(super) fn plan(
    engine: &Engine,
    checkpoint: &Checkpoint,
    set: &FingerprintSet,
    recipe: &Recipe,
    printer: &Printer,
) -> anyhow::Result<()> {
    let run = run_size(engine, set);
    let plan = MemoryPlan::new(checkpoint, recipe, &run)?;
    let available = available_memory::bytes();
    printer.note(table(&plan, available));
    let Some(available) = available else {
        return Ok(());
    };
    let fits = plan.ensure_fits(available);
    if fits.is_ok() {
        return Ok(());
    }
    let changes = MemoryPlan::changes_that_fit(checkpoint, recipe, &run, available)?;
    fits.hint(if changes.is_empty() {
        "No recipe of this model fits: free memory, or use a larger machine.".to_owned()
    } else {
        format!(
            "Each of these changes of the recipe would fit: {}.",
            changes.join("; ")
        )
    })
}

fn run_size(engine: &Engine, set: &FingerprintSet) -> RunSize {
    let responses = set.fingerprints().iter().flat_map(|fingerprint| {
        let query = fingerprint.query_ids.len();
        let responses = fingerprint.responses.iter();
        responses.map(move |response| (query + response.ids.len(), response.ids.len()))
    });
    let mut size = RunSize {
        isa: engine.isa(),
        longest: 0,
        response: 0,
        items: 0,
    };
    for (whole, response) in responses {
        size.longest = size.longest.max(whole);
        size.response = size.response.max(response);
        size.items += 1;
    }
    size
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
