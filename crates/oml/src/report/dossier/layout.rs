//! The sections of a report, the same for every format that people read.

use super::super::plot::{self, Bar};
use super::terms::{Term, terms};
use super::{Asked, Dossier, Kind, Rate, Rates, Step, number};

/// A table with more rows than this is folded on the page.
const FOLD: usize = 24;
/// Letters of a prompt that a table shows.
const PROMPT: usize = 300;

/// A heading and what stands under it.
pub(super) struct Section {
    pub(super) heading: &'static str,
    /// What the section says, in a sentence or two.
    pub(super) lead: String,
    pub(super) blocks: Vec<Block>,
}

/// A part of a section.
pub(super) enum Block {
    /// Drawings side by side.
    Figures(Vec<Figure>),
    Table(Table),
    Steps(Vec<Step>),
    Terms(Vec<&'static Term>),
}

/// A drawing.
pub(super) struct Figure {
    pub(super) title: String,
    pub(super) note: String,
    /// Made here, with everything from files escaped.
    pub(super) svg: String,
    /// What it shows, in words.
    pub(super) words: String,
}

/// Rows under a head.
pub(super) struct Table {
    pub(super) caption: String,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// What stands above a folded table.
    pub(super) folded: Option<String>,
    /// Name, value and basis, each of which may be long.
    pub(super) is_facts: bool,
}

/// What stands in a table.
#[derive(Clone)]
pub(super) enum Cell {
    Words(String),
    Number(String),
    Code(String),
    /// A word that is good news, bad news, or neither.
    Mark(String, Option<bool>),
    /// A share as a bar.
    Share(f64),
}

impl Cell {
    /// Name in the style sheet.
    pub(super) const fn class(&self) -> &'static str {
        match self {
            Self::Words(_) => "words",
            Self::Number(_) => "number",
            Self::Code(_) => "code",
            Self::Mark(..) => "marked",
            Self::Share(_) => "share",
        }
    }
}

impl Table {
    /// Whether rows become paragraphs on narrow screens: where there are words in them.
    pub(super) fn is_stacked(&self) -> bool {
        self.rows
            .iter()
            .flat_map(|row| row.iter().skip(1))
            .any(|cell| matches!(cell, Cell::Words(_) | Cell::Code(_)))
    }

    fn block(caption: impl Into<String>, head: Vec<&'static str>, rows: Vec<Vec<Cell>>) -> Block {
        Block::Table(Self {
            caption: caption.into(),
            head,
            rows,
            folded: None,
            is_facts: false,
        })
    }
}

/// All sections of a report, in order.
pub(super) fn sections(dossier: &Dossier) -> Vec<Section> {
    let all = [
        evidence(dossier),
        rates(dossier),
        prompts(dossier),
        ranks(dossier),
        training(dossier),
        utility(dossier),
        stealth(dossier),
        checks(dossier),
        fingerprints(dossier),
        verify(dossier),
        facts(dossier),
        Some(Section {
            heading: "Terms",
            lead: String::new(),
            blocks: vec![Block::Terms(terms(dossier))],
        }),
    ];
    all.into_iter().flatten().collect()
}

fn evidence(dossier: &Dossier) -> Option<Section> {
    let course = dossier.course.as_ref()?;
    let claim = -course.alpha.log10();
    let steps: Vec<(bool, f64)> = dossier
        .fingerprints
        .iter()
        .filter_map(|asked| Some((asked.hit, asked.log10_e_value?)))
        .collect();
    let reached = course.reached_after.map_or_else(
        || "It did not reach the line.".to_owned(),
        |after| {
            format!(
                "It reached the line after {}.",
                number::some(after as u64, "question", "questions")
            )
        },
    );
    let largest = number::power(course.log10_e_value);
    let words = format!(
        "After {} the e-value is at most {largest}; the line at which a claim is made stands at {}. {reached}",
        number::some(steps.len() as u64, "question", "questions"),
        number::power(claim)
    );
    let missed = steps.iter().any(|step| !step.0);
    Some(Section {
        heading: "How the evidence grew",
        lead: format!(
            "The e-value is what one would have won by betting, at fair odds, against “this model does not hold the fingerprints”. It may be \
             looked at after every question, and the audit may stop whenever it likes: an innocent model gets above the line with a \
             probability of at most {}.",
            number::odds(course.alpha)
        ),
        blocks: vec![Block::Figures(vec![Figure {
            title: "E-value after each question".into(),
            note: format!(
                "by decades; {}",
                if missed {
                    "full dots are hits, rings are misses"
                } else {
                    "every dot is a hit"
                }
            ),
            svg: plot::evidence(&steps, claim, &words),
            words,
        }])],
    })
}

fn rates(dossier: &Dossier) -> Option<Section> {
    let rates = dossier.rates.as_ref()?;
    let mut lead = format!(
        "A model without the fingerprints is taken to answer one with a probability of at most {} ({}).",
        number::percent(rates.null),
        rates.null_basis
    );
    if rates.controls.is_empty() {
        lead.push_str(" No control model was asked.");
    }
    if let (Some(decoys), Some(fisher)) = (&rates.decoys, rates.log10_fisher) {
        lead.push_str(&format!(
            " Between the fingerprints, {} were asked ({}); {} brought the response that was drawn for it. Had fingerprints and decoys been \
             alike to this model, a difference this large would come up with a probability of {} (Fisher’s exact test).",
            number::some(decoys.asked, "decoy question", "decoy questions"),
            rates.decoy_basis,
            if decoys.hits == 0 { "none".to_owned() } else { number::count(decoys.hits) },
            number::power(fisher)
        ));
    }
    let row = |rate: &Rate, role: &str| {
        vec![
            Cell::Words(rate.name.clone()),
            Cell::Words(role.to_owned()),
            Cell::Number(rate.counts()),
            Cell::Number(number::percent(rate.share())),
            Cell::Number(rate.interval()),
            rate.digest.as_ref().map_or_else(
                || Cell::Words("–".into()),
                |digest| Cell::Code(short(digest)),
            ),
        ]
    };
    let mut rows = vec![row(&rates.suspect, "suspect")];
    rows.extend(
        rates
            .decoys
            .iter()
            .map(|decoys| row(decoys, "asked of the suspect")),
    );
    rows.extend(rates.controls.iter().map(|control| row(control, "control")));
    Some(Section {
        heading: "The suspect beside innocent answers",
        lead,
        blocks: vec![
            Block::Figures(vec![rates_figure(rates)]),
            Table::block(
                "Questions answered with the fingerprint’s response",
                vec!["model", "role", "hits", "share", "95 % interval", "digest"],
                rows,
            ),
        ],
    })
}

fn rates_figure(rates: &Rates) -> Figure {
    let named = |rate, name, is_suspect| (rate, name, is_suspect);
    let mut all = vec![named(&rates.suspect, rates.suspect.name.as_str(), true)];
    all.extend(
        rates
            .decoys
            .iter()
            .map(|decoys| named(decoys, "decoys", false)),
    );
    // A page of controls would hide the suspect; the table has them all.
    let controls = rates.controls.iter().take(6);
    all.extend(controls.map(|control| named(control, control.name.as_str(), false)));
    let bars: Vec<Bar<'_>> = all
        .iter()
        .map(|&(rate, name, is_suspect)| Bar {
            name,
            count: rate.counts(),
            share: rate.share(),
            low: rate.low,
            high: rate.high,
            is_suspect,
        })
        .collect();
    let said: Vec<String> = all
        .iter()
        .map(|(rate, name, _)| {
            format!(
                "{name}: {}, {} (95 % interval {})",
                rate.counts(),
                number::percent(rate.share()),
                rate.interval()
            )
        })
        .collect();
    let words = format!(
        "{}. The null rate is {}.",
        said.join("; "),
        number::percent(rates.null)
    );
    Figure {
        title: "Share of questions answered".into(),
        note: "dots are what was counted, bars their 95 % Clopper–Pearson intervals".into(),
        svg: plot::rates(&bars, rates.null, &words),
        words,
    }
}

fn prompts(dossier: &Dossier) -> Option<Section> {
    // A single one is named among the facts.
    if dossier.prompts.len() < 2 && dossier.kind != Kind::Check || dossier.prompts.is_empty() {
        return None;
    }
    let rows = dossier.prompts.iter().map(|prompt| {
        let share = prompt.hits as f64 / prompt.asked.max(1) as f64;
        vec![
            Cell::Code(cut(&prompt.text, PROMPT)),
            Cell::Number(format!(
                "{} of {}",
                number::count(prompt.hits),
                number::count(prompt.asked)
            )),
            Cell::Number(number::percent(share)),
            Cell::Share(share),
        ]
    });
    let lead = match dossier.kind {
        Kind::Check => {
            "The queries were also asked inside these prompts. The verdict does not rest on them."
        }
        _ => {
            "Each query was put into these prompts, one after the other until one brought a hit; {} stands for the query. The null rate \
             accounts for all of them together."
        }
    };
    Some(Section {
        heading: "Hits by prompt",
        lead: lead.into(),
        blocks: vec![Table::block(
            "What was put around the queries",
            vec!["prompt", "hits", "share", ""],
            rows.collect(),
        )],
    })
}

fn ranks(dossier: &Dossier) -> Option<Section> {
    if dossier.ranks.is_empty() {
        return None;
    }
    let bins: Vec<(String, u64)> = dossier
        .ranks
        .iter()
        .map(|rank| (rank.name.clone(), rank.count))
        .collect();
    let said: Vec<String> = bins
        .iter()
        .map(|(name, count)| format!("{name}: {count}"))
        .collect();
    let words = format!("{}.", said.join("; "));
    Some(Section {
        heading: "Where the responses stand",
        lead: "After each query a model orders everything it could say next. A model that learned the fingerprint puts the response first; \
               another one has thousands of words before it."
            .into(),
        blocks: vec![Block::Figures(vec![Figure {
            title: "Rank of the response’s first token on the suspect".into(),
            note: "number of fingerprints; the best response where several are valid".into(),
            svg: plot::ranks(&bins, &words),
            words,
        }])],
    })
}

fn training(dossier: &Dossier) -> Option<Section> {
    let training = dossier.training.as_ref()?;
    let (moments, kept) = (&training.moments, training.kept_seconds);
    let mut blocks = Vec::new();
    if let (Some(first), Some(last)) = (moments.first(), moments.last()) {
        let recall = moments
            .iter()
            .filter_map(|moment| moment.recall)
            .next_back();
        let words = format!(
            "The loss goes from {} to {} in {}.",
            number::plain(first.loss),
            number::plain(last.loss),
            seconds(last.seconds)
        );
        let recalled = format!(
            "At the end {} of the queries are answered with their response.",
            recall.map_or_else(|| "an unknown share".to_owned(), number::percent)
        );
        blocks.push(Block::Figures(vec![
            Figure {
                title: "Loss".into(),
                note: "mean on response tokens, nats, by decades".into(),
                svg: plot::loss(moments, kept),
                words,
            },
            Figure {
                title: "Recall".into(),
                note: "share of queries answered with the response, greedily".into(),
                svg: plot::recall(moments, kept),
                words: recalled,
            },
        ]));
    }
    if !training.walked_back.is_empty() {
        let rows = training.walked_back.iter().map(|stop| {
            let kept = training.kept_share == Some(stop.share);
            vec![
                Cell::Number(number::percent(stop.share)),
                Cell::Number(number::percent(stop.recall)),
                Cell::Number(format!("{:.4} ×", stop.perplexity_ratio)),
                Cell::Mark(
                    if kept { "kept" } else { "" }.to_owned(),
                    kept.then_some(true),
                ),
            ]
        });
        blocks.push(Table::block(
            "Between the base model and the end of training",
            vec!["share of the way", "recall", "perplexity to the base’s", ""],
            rows.collect(),
        ));
    }
    (!blocks.is_empty()).then(|| Section {
        heading: "Learning",
        lead: "The model was trained until it gave the responses. The dashed line marks the weights that were kept.".into(),
        blocks,
    })
}

fn utility(dossier: &Dossier) -> Option<Section> {
    if dossier.utility.is_empty() {
        return None;
    }
    let figure = |utility: &super::Utility| {
        let measured = |m: super::super::data::Measured| {
            let value = utility.unit.text(m.value);
            match m.standard_error {
                Some(error) => format!("{value} ± {}", utility.unit.text(error)),
                None => value,
            }
        };
        let base = utility
            .base
            .map_or_else(String::new, |base| format!("base {}, ", measured(base)));
        Figure {
            title: utility.name.clone(),
            note: format!("{}; {}", utility.better.text(), utility.basis),
            svg: plot::bars(utility),
            words: format!(
                "{base}fingerprinted {} ({}; {}).",
                measured(utility.fingerprinted),
                utility.better.text(),
                utility.basis
            ),
        }
    };
    Some(Section {
        heading: "What it cost",
        lead: "The same measurements before and after the fingerprints were trained in; whiskers are one standard error.".into(),
        blocks: vec![Block::Figures(dossier.utility.iter().map(figure).collect())],
    })
}

fn stealth(dossier: &Dossier) -> Option<Section> {
    let stealth = dossier.stealth.as_ref()?;
    let row = |name: &str, value: String, basis: &str| {
        vec![
            Cell::Words(name.to_owned()),
            Cell::Number(value),
            Cell::Words(basis.to_owned()),
        ]
    };
    Some(Section {
        heading: "How conspicuous the queries are",
        lead: format!(
            "A host could filter queries that look unlike ordinary text. A filter that refuses the strangest 1 % of ordinary text would refuse \
             {} of these queries.",
            number::percent(stealth.above_99th)
        ),
        blocks: vec![facts_table(
            "Perplexity of the queries",
            vec!["number", "value", "basis"],
            vec![
                row(
                    "Median perplexity",
                    number::plain(stealth.median_perplexity),
                    &stealth.basis,
                ),
                row(
                    "Median percentile",
                    format!("{:.0}", stealth.median_percentile),
                    "of ordinary text of the same length; 50 would be ordinary, and low ones are easier to predict",
                ),
                row(
                    "Above the 99th percentile",
                    number::percent(stealth.above_99th),
                    "share of the queries; 1 % would be ordinary",
                ),
                row(
                    "Below the 1st percentile",
                    number::percent(stealth.below_1st),
                    "share of the queries; 1 % would be ordinary",
                ),
            ],
        )],
    })
}

fn checks(dossier: &Dossier) -> Option<Section> {
    if dossier.checks.is_empty() {
        return None;
    }
    let rows = dossier.checks.iter().map(|check| {
        let good = match check.outcome.as_str() {
            "holds" => Some(true),
            "fails" => Some(false),
            _ => None,
        };
        vec![
            Cell::Words(check.name.clone()),
            Cell::Mark(check.outcome.clone(), good),
            Cell::Words(format!("{}. Found: {}", check.means, check.found)),
        ]
    });
    Some(Section {
        heading: "What was checked",
        lead: "Each check was made from the bundle’s bytes when this report was written. What nobody said or could say is named as unchecked."
            .into(),
        blocks: vec![facts_table(
            "Checks of the bundle",
            vec!["check", "outcome", "what it means"],
            rows.collect(),
        )],
    })
}

fn fingerprints(dossier: &Dossier) -> Option<Section> {
    let all = &dossier.fingerprints;
    let first = all.first()?;
    let mut head = vec!["no.", "fingerprint", "answer"];
    let optional = [
        ("e-value after it", first.log10_e_value.is_some()),
        ("rank", first.rank.is_some()),
        ("probability", first.probability.is_some()),
        ("query", first.query.is_some()),
        ("responses", first.query.is_some()),
    ];
    head.extend(
        optional
            .iter()
            .filter(|(_, there)| *there)
            .map(|(name, _)| *name),
    );
    let row = |(place, asked): (usize, &Asked)| {
        let mut row = vec![
            Cell::Number(number::count(place as u64 + 1)),
            Cell::Number(number::count(asked.index)),
            match asked.hit {
                true => Cell::Mark("hit".into(), Some(true)),
                false => Cell::Mark("miss".into(), Some(false)),
            },
        ];
        row.extend(
            asked
                .log10_e_value
                .map(|value| Cell::Number(number::power(value))),
        );
        row.extend(asked.rank.map(|rank| Cell::Number(number::count(rank))));
        row.extend(
            asked
                .probability
                .map(|value| Cell::Number(format!("{value:.4}"))),
        );
        if first.query.is_some() {
            row.push(Cell::Code(cut(
                asked.query.as_deref().unwrap_or("–"),
                PROMPT,
            )));
            row.push(Cell::Code(cut(&asked.responses.join(" | "), PROMPT)));
        }
        row
    };
    let rows: Vec<_> = all.iter().enumerate().map(row).collect();
    let count = number::some(all.len() as u64, "fingerprint", "fingerprints");
    Some(Section {
        heading: "Fingerprints asked",
        lead: match first.query {
            Some(_) => {
                "Numbers count from 0 in the whole set, in the order of asking. Everything that was asked is opened, hit or not; each pair was \
                 checked against the Merkle root. An opened pair is spent: anybody can train a model to give or to refuse its response."
            }
            None => {
                "Numbers count from 0 in the whole set, in the order of asking. Queries and responses stay secret: a fingerprint that has been \
                 shown cannot be asked again. A claim bundle opens those that were asked."
            }
        }
        .into(),
        blocks: vec![Block::Table(Table {
            caption: "Every fingerprint that was asked".into(),
            head,
            folded: (rows.len() > FOLD).then(|| format!("All {count}")),
            rows,
            is_facts: false,
        })],
    })
}

fn verify(dossier: &Dossier) -> Option<Section> {
    (!dossier.verify.is_empty()).then(|| Section {
        heading: "How to verify this",
        lead: "A report is words about evidence, and not the evidence itself.".into(),
        blocks: vec![Block::Steps(dossier.verify.clone())],
    })
}

fn facts(dossier: &Dossier) -> Option<Section> {
    let rows: Vec<_> = dossier
        .facts
        .iter()
        .map(|fact| {
            vec![
                Cell::Words(fact.name.clone()),
                if is_code(&fact.value) {
                    Cell::Code(fact.value.clone())
                } else {
                    Cell::Number(fact.value.clone())
                },
                Cell::Words(fact.basis.clone()),
            ]
        })
        .collect();
    (!rows.is_empty()).then(|| Section {
        heading: "Every number and its basis",
        lead: String::new(),
        blocks: vec![facts_table(
            "What was measured, and how",
            vec!["name", "value", "basis"],
            rows,
        )],
    })
}

fn facts_table(caption: &str, head: Vec<&'static str>, rows: Vec<Vec<Cell>>) -> Block {
    Block::Table(Table {
        caption: caption.to_owned(),
        head,
        rows,
        folded: None,
        is_facts: true,
    })
}

/// Whether a value has to be copied exactly: long and without a space, such as a digest or a URL.
fn is_code(value: &str) -> bool {
    value.len() > 24 && !value.contains(' ')
}

/// The beginning and the end of a digest.
pub(super) fn short(digest: &str) -> String {
    match (
        digest.get(..8),
        digest.get(digest.len().saturating_sub(6)..),
    ) {
        (Some(begin), Some(end)) if digest.len() > 20 => format!("{begin}…{end}"),
        _ => digest.to_owned(),
    }
}

/// At most `most` letters of a text.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let begin: String = text.chars().take(most).collect();
    format!("{begin}…")
}

fn seconds(seconds: f64) -> String {
    crate::seconds::text(std::time::Duration::from_secs_f64(seconds))
}
