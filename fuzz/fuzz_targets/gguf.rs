//! A GGUF file of any bytes is opened, or refused with an error: header, configuration, tokenizer files.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use oml_model::checkpoint::Checkpoint;
use oml_model::checkpoint::gguf::read_header;

fuzz_target!(|bytes: &[u8]| {
    if read_header(bytes, bytes.len() as u64, Path::new("fuzz.gguf")).is_err() {
        return;
    }
    // what has a good header goes the whole way, through a file
    let path = std::env::temp_dir().join(format!("oml-fuzz-{}.gguf", std::process::id()));
    if std::fs::write(&path, bytes).is_err() {
        return;
    }
    if let Ok(checkpoint) = Checkpoint::open(&path) {
        for tensor in checkpoint.tensors() {
            let _ = checkpoint.read_f32(&tensor.name, &mut vec![0.0; tensor.elements()]);
        }
        let _ = checkpoint.tokenizer();
    }
    let _ = std::fs::remove_file(&path);
});
