//! The OML domain: fingerprints, commitments, statistics and file formats, without I/O, clock or global randomness.
