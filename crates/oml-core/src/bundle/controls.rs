//! What models that never saw the fingerprints answered to them: the basis of a measured null rate.

use crate::check::Control;
use crate::merkle::Hash;

/// One control, fingerprint by fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlResult {
    /// What it is called.
    pub name: String,
    /// Digest of its tensors.
    pub digest: Hash,
    /// Numbers of the fingerprints that it was asked, rising.
    pub asked: Vec<usize>,
    /// Those of them that it answered as the owner's model does, rising.
    pub hits: Vec<usize>,
}

impl ControlResult {
    /// The numbers alone.
    #[must_use]
    pub fn control(&self) -> Control {
        Control {
            name: self.name.clone(),
            count: self.asked.len(),
            hits: self.hits.len(),
        }
    }
}
