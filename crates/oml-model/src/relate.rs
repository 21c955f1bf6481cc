//! What two checkpoints have in common, unit by unit: the evidence that [`oml_core::relatedness`] judges.
//!
//! ```text
//! frame     T: the model's stream → the suspect's, by least squares on the embeddings of tokens that both know, or T = 1
//! views     per layer and unit: its gate row and its up row with the norm's weights folded in; without a gate, its row into
//!           the block and its column out of it
//! layers    1 to 1 in order; where their numbers differ, the pairing in order of the largest sum of similarities
//! S[i,j]    cosine of the model's unit i and T applied to the suspect's unit j
//! ```
//!
//! Rows are functionals of the stream, so the suspect's are pulled back with T; columns are vectors in it, so the model's
//! are pushed forward. A rotation of the whole stream, folded norms and any scale of a unit leave S as it is, and attention
//! is not looked at. All choices made here (the frame, the layers' pairs) depend on S without regard to the numbers and signs
//! of the suspect's units, so they do not disturb the nulls of order and signs. Products are in f32, a layer at a time.

mod error;
mod frame;
mod layers;
mod matrix;
mod units;

use oml_core::relatedness::{Agreement, Evidence, Order, Sense, Signs, mutual_nearest};

use crate::checkpoint::Checkpoint;
use crate::engine::Engine;

pub use error::RelateError;
pub use frame::{FrameName, TokenBasis};

use frame::{Anchors, Frame};
use matrix::Products;
use units::Views;

/// What was found in a pair of layers.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerMatch {
    /// Layer of the model, from 0.
    pub model_layer: usize,
    /// Layer of the suspect.
    pub suspect_layer: usize,
    /// Units matched by the first view.
    pub pairs: usize,
    /// Spearman's correlation of their numbers, where they are enough.
    pub order: Option<f64>,
    /// Of the pairs, those whose up maps point the same way; `None` without a gate.
    pub signs: Option<Signs>,
    /// Units with one partner by both views.
    pub agreement: Agreement,
    /// Mean cosine of the pairs in the first view; 0 without pairs.
    pub cosine: f64,
}

/// What two checkpoints have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Relatedness {
    /// What the verdict rests on.
    pub evidence: Evidence,
    /// By layers of the model.
    pub layers: Vec<LayerMatch>,
    /// How the streams were compared.
    pub frame: FrameName,
    /// How the embeddings' rows were paired, and how many were; `None` where they could not be.
    pub tokens: Option<(TokenBasis, usize)>,
    /// Linear CKA of the embeddings of these tokens, a figure for readers.
    pub embedding_cka: Option<f64>,
    /// Mean cosine of all matched units in the first view, a figure for readers.
    pub cosine: f64,
}

/// Compares two checkpoints. `progress` gets the layers that are done, and all.
///
/// # Errors
/// Models that cannot be compared, by name; and whatever is wrong with their files.
pub fn relate(
    engine: &Engine,
    model: &Checkpoint,
    suspect: &Checkpoint,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Relatedness, RelateError> {
    units::ensure_comparable(model, suspect)?;
    let products = Products::new(engine);
    let anchors = Anchors::new(&products, model, suspect)?;
    let frame = frame::choose(&products, model, suspect, anchors.as_ref())?;
    let pairing = layers::pair(&products, model, suspect, &frame)?;
    let gated = model.config().family.gated;
    let mut evidence = Evidence {
        unit_signs: gated.then(Signs::default),
        coordinate_order: anchors.as_ref().map(|anchors| {
            let mut order = Order::default();
            order.add(&anchors.coordinate_pairs);
            order
        }),
        ..Evidence::default()
    };
    let mut matches = Vec::with_capacity(pairing.len());
    let (mut pairs, mut cosines) = (0, 0.0);
    for (done, &(model_layer, suspect_layer)) in pairing.iter().enumerate() {
        progress(done, pairing.len());
        let own = units::read(model, model_layer)?;
        let other = units::read(suspect, suspect_layer)?;
        let (mut found, sum) = compare(&products, &frame, own, other, &mut evidence.unit_order);
        (found.model_layer, found.suspect_layer) = (model_layer, suspect_layer);
        if let (Some(all), Some(signs)) = (&mut evidence.unit_signs, found.signs) {
            all.merge(signs);
        }
        evidence.agreement.merge(found.agreement);
        pairs += found.pairs;
        cosines += sum;
        matches.push(found);
    }
    progress(pairing.len(), pairing.len());
    Ok(Relatedness {
        evidence,
        layers: matches,
        frame: frame.name,
        tokens: anchors.as_ref().map(|a| (a.basis, a.tokens)),
        embedding_cka: anchors.as_ref().map(|anchors| anchors.cka),
        cosine: mean(cosines, pairs),
    })
}

/// Compares the units of two layers, and gives the sum of the pairs' cosines beside.
fn compare(
    products: &Products,
    frame: &Frame,
    own: Views,
    other: Views,
    order: &mut Order,
) -> (LayerMatch, f64) {
    let (units, width) = (own.first.rows.min(other.first.rows), other.first.rows);
    let gated = own.gated;
    let first = frame.rows(products, own.first, other.first);
    let pairs = mutual_nearest(&first.values, width, Sense::Signed);
    drop(first);
    let second = if gated {
        frame.rows(products, own.second, other.second)
    } else {
        frame.columns(products, own.second, other.second)
    };
    let sense = if gated { Sense::Blind } else { Sense::Signed };
    let by_second = mutual_nearest(&second.values, width, sense);
    let signs = gated.then(|| {
        let mut signs = Signs::default();
        for pair in &pairs {
            signs.add(second.values[pair.first as usize * width + pair.second as usize]);
        }
        signs
    });
    let sum: f64 = pairs.iter().map(|pair| f64::from(pair.similarity)).sum();
    let found = LayerMatch {
        model_layer: 0,
        suspect_layer: 0,
        pairs: pairs.len(),
        order: order.add(&pairs),
        signs,
        agreement: Agreement::of(&pairs, &by_second, units),
        cosine: mean(sum, pairs.len()),
    };
    (found, sum)
}

fn mean(sum: f64, count: usize) -> f64 {
    if count > 0 { sum / count as f64 } else { 0.0 }
}
