//! Language models: checkpoint, tokenizer, decoder forward and backward, generation and training.
