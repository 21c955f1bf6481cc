//! Writing a model folder: whole, or not at all.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oml_model::checkpoint::{Checkpoint, CheckpointError, DType, write_model};
use serde_json::{Value, json};

use crate::support::{config, tensors, write_folder};

/// A folder with a source model in `source`.
fn source() -> (tempfile::TempDir, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let path = folder.path().join("source");
    write_folder(&path, &config, &tensors(&config));
    fs::write(
        path.join("generation_config.json"),
        r#"{"eos_token_id": [2, 3]}"#,
    )
    .unwrap();
    fs::write(path.join("notes.txt"), "not a model's file").unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    (folder, checkpoint)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn copy(source: &Checkpoint, out: &Path, dtype: DType) -> Result<(), CheckpointError> {
    write_model(
        out,
        source,
        dtype,
        &mut |name, out| Ok(source.read_f32(name, out)?),
        &[],
    )
}

#[test]
fn a_copy_has_the_same_model() {
    let (folder, source) = source();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let out = folder.path().join(dtype.name());
        copy(&source, &out, dtype).unwrap();
        assert_eq!(
            names(&out),
            ["config.json", "generation_config.json", "model.safetensors"]
        );
        let read = Checkpoint::open(&out).unwrap();
        assert_eq!(read.config(), source.config());
        assert_eq!(read.config().eos_token_ids, [2, 3]);
        for tensor in source.tensors() {
            let [mut a, mut b] = [vec![0.0; tensor.elements()], vec![0.0; tensor.elements()]];
            source.read_f32(&tensor.name, &mut a).unwrap();
            read.read_f32(&tensor.name, &mut b).unwrap();
            assert_eq!(a, b);
        }
        assert!(read.tensors().all(|tensor| tensor.dtype == dtype));
        let fields: Value =
            serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(fields["torch_dtype"], dtype.torch_name().unwrap());
        assert_eq!(fields["unknown_to_us"], json!({"kept": true}));
    }
    let digest = |name: &str| {
        Checkpoint::open(&folder.path().join(name))
            .unwrap()
            .digest()
            .unwrap()
    };
    assert_eq!(digest("F32"), source.digest().unwrap());
    assert_ne!(digest("F32"), digest("F16"));
}

#[test]
fn extra_files_come_along() {
    let (folder, source) = source();
    let out = folder.path().join("out");
    let extra = [
        ("oml.json".to_owned(), b"{}".to_vec()),
        ("generation_config.json".to_owned(), b"{\"x\":1}".to_vec()),
    ];
    write_model(&out, &source, DType::F32, &mut |_, _| Ok(()), &extra).unwrap();
    assert_eq!(fs::read(out.join("oml.json")).unwrap(), b"{}");
    assert_eq!(
        fs::read(out.join("generation_config.json")).unwrap(),
        b"{\"x\":1}"
    );
}

#[test]
fn nothing_is_left_behind_by_a_failure() {
    let (folder, source) = source();
    let out = folder.path().join("out");
    let mut calls = 0;
    let mut fails = |_: &str, _: &mut [f32]| {
        calls += 1;
        if calls < 5 {
            Ok(())
        } else {
            Err(Box::<dyn Error + Send + Sync>::from("no more"))
        }
    };
    let error = write_model(&out, &source, DType::F32, &mut fails, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model.layers.0.self_attn.q_proj.bias: no more"
    );
    for (dtype, number) in [
        (DType::F32, f32::NAN),
        (DType::F16, 65520.0),
        (DType::BF16, f32::MAX),
    ] {
        let mut bad = |_: &str, out: &mut [f32]| {
            out[3] = number;
            Ok(())
        };
        let error = write_model(&out, &source, dtype, &mut bad, &[]).unwrap_err();
        let expected = format!(
            "{}: model.embed_tokens.weight: expected finite numbers, got {number} at 3",
            out.display()
        );
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(names(folder.path()), ["source"]);
}

#[test]
fn an_output_that_exists_is_not_touched() {
    let (folder, source) = source();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let error = copy(&source, &out, DType::F32).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: already exists", out.display())
    );
    // made while the model is being written
    fs::remove_dir(&out).unwrap();
    let mut late = |_: &str, _: &mut [f32]| {
        fs::create_dir_all(&out).unwrap();
        Ok(())
    };
    let error = write_model(&out, &source, DType::F32, &mut late, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: already exists", out.display())
    );
    assert_eq!(names(folder.path()), ["out", "source"]);
    assert_eq!(names(&out), Vec::<String>::new());
}

#[test]
fn a_folder_that_cannot_be_written_in_is_an_error() {
    let (folder, source) = source();
    let error = copy(&source, &folder.path().join("absent/out"), DType::F32).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("absent: look for space: No such file or directory (os error 2)"),
        "{error}"
    );
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(closed.join("probe"), "").is_ok() {
        println!("skipped: this user writes in read-only folders");
        return;
    }
    let error = copy(&source, &closed.join("out"), DType::F32).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("closed: create a folder in it: Permission denied (os error 13)"),
        "{error}"
    );
}

#[test]
fn quantised_types_are_not_written() {
    let (folder, source) = source();
    let error = copy(&source, &folder.path().join("out"), DType::Q8_0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "dtype: expected F32, F16 or BF16, got Q8_0"
    );
}
