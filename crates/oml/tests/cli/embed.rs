//! `oml embed` on a tiny model: stopped, killed, in each other's way, and without room.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Place;
use super::tiny::{EMBED, place, place_with_a_large_weight};

/// Enough epochs to be stopped in, each measured and saved.
const LONG: &str = "--epochs 48 --settle-epochs 48 --evaluate-every 1 --save-seconds 0";

fn start(place: &Place, line: &str) -> Child {
    let mut command = place.command(line);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The same through `env`, which sets what a signal does at first.
#[cfg(target_os = "linux")]
fn start_with(place: &Place, line: &str, hangup: &str) -> Child {
    let oml = place.command(line);
    let mut command = Command::new("/usr/bin/env");
    command.env_clear().arg(hangup);
    command.arg(oml.get_program()).args(oml.get_args());
    command.current_dir(oml.get_current_dir().unwrap());
    command.envs(
        oml.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    let mut kill = Command::new("kill");
    let sent = kill.args([name, &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Waits until the run says that it has trained.
fn wait_for_an_epoch(child: &mut Child) {
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let epoch = said.find(|line| line.as_ref().unwrap().starts_with("epoch "));
    assert!(epoch.is_some(), "the run ended before it trained");
    // What is still to come must not fill the pipe.
    thread::spawn(move || said.for_each(drop));
}

fn digest(place: &Place, line: &str) -> String {
    place.ok(line)["digest"].as_str().unwrap().to_owned()
}

/// Names in the place's folder that a run may have left.
fn leftovers(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.contains("state") || name.contains("partial") || name.starts_with('.'))
        .collect()
}

#[cfg(unix)]
#[test]
fn a_stopped_or_killed_run_goes_on_to_the_same_model() {
    let place = place();
    let line = format!("{EMBED} {LONG}");
    let started = Instant::now();
    let whole = digest(&place, &line);
    let time = started.elapsed();
    let resume = format!("{line} --resume");
    let again = || fs::remove_dir_all(place.path("marked")).unwrap();

    again();
    let mut child = start(&place, &line);
    wait_for_an_epoch(&mut child);
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(place.path("marked.state/state").is_file());
    let shown = place.run(&line);
    assert!(
        shown.contains("marked.state holds the state of a run that was stopped"),
        "{shown}"
    );
    let shown = place.run(&format!("{resume} --seed 9"));
    assert!(
        shown.contains(
            "hint: The base model, the fingerprints, the copy, the recipe or the benign text differ"
        ),
        "{shown}"
    );
    assert_eq!(digest(&place, &resume), whole);

    again();
    // Each time a run is killed later after its start, the last ones while the result is written and measured.
    for part in [30, 60, 80, 90, 95, 100] {
        let has_state = place.path("marked.state/state").is_file();
        let mut child = start(&place, if has_state { &resume } else { &line });
        thread::sleep(
            time.mul_f64(f64::from(part) / 100.0)
                .max(Duration::from_millis(20)),
        );
        child.kill().unwrap();
        child.wait().unwrap();
        if place.path("marked").exists() {
            break;
        }
    }
    // Killed between the last two things it does, a run leaves its state beside the result.
    if !place.path("marked").exists() {
        let has_state = place.path("marked.state/state").is_file();
        assert_eq!(
            digest(&place, if has_state { &resume } else { &line }),
            whole
        );
        assert!(leftovers(&place).is_empty());
    }
    let manifest = fs::read_to_string(place.path("marked/oml-manifest.json")).unwrap();
    assert!(manifest.contains(&whole), "{manifest}");
}

#[cfg(target_os = "linux")]
#[test]
fn hanging_up_stops_a_run_unless_it_is_ignored() {
    let place = place();
    let line = format!("{EMBED} {LONG}");
    for (hangup, signals) in [
        ("--default-signal=HUP", &["-HUP"][..]),
        // As `nohup` starts it.
        ("--ignore-signal=HUP", &["-HUP", "-TERM"]),
    ] {
        let mut child = start_with(&place, &line, hangup);
        wait_for_an_epoch(&mut child);
        for (nth, name) in signals.iter().enumerate() {
            if nth > 0 {
                thread::sleep(Duration::from_millis(50));
            }
            assert!(child.try_wait().unwrap().is_none(), "{name}");
            signal(&child, name);
        }
        assert_eq!(child.wait().unwrap().code(), Some(2));
        fs::remove_dir_all(place.path("marked.state")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn two_runs_on_one_output_are_refused() {
    let place = place();
    let line = format!("{EMBED} {LONG}");
    let mut child = start(&place, &line);
    wait_for_an_epoch(&mut child);
    let shown = place.run(&line);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(shown.starts_with("exit: 2\n"), "{shown}");
    assert!(
        shown.contains("marked.state: expected a folder that no other run uses, got one in use"),
        "{shown}"
    );
}

#[test]
fn a_finished_training_outlives_a_failed_writing() {
    let place = place_with_a_large_weight();
    let lora = format!("{EMBED} --lora-rank 4 --target-modules down_proj --epochs 4");
    let whole = digest(&place, &format!("{lora} --dtype f32"));
    fs::remove_dir_all(place.path("marked")).unwrap();
    let shown = place.run(&format!("{lora} --dtype f16"));
    assert!(shown.starts_with("exit: 2\n"), "{shown}");
    assert!(shown.contains("hint: The training is saved: "), "{shown}");
    assert!(!place.path("marked.state/model").exists());
    assert_eq!(
        digest(&place, &format!("{lora} --dtype f32 --resume")),
        whole
    );
    assert!(leftovers(&place).is_empty());
}

#[test]
fn little_recall_is_not_passed_over() {
    let place = place();
    let shown =
        place.run(&EMBED.replace("--learning-rate 1e-2", "--learning-rate 1e-6 --epochs 1"));
    assert!(shown.starts_with("exit: 0\n"), "{shown}");
    assert!(
        shown.contains("warning: recall: expected at least the recipe's target_recall 0.999, got "),
        "{shown}"
    );
}

#[test]
fn a_run_that_fails_before_it_trains_leaves_nothing() {
    let place = place();
    let shown = place.run(&EMBED.replace("--model base", "--model nowhere"));
    assert!(shown.starts_with("exit: 2\n"), "{shown}");
    let shown = place.run(&format!("{EMBED} --resume"));
    assert!(
        shown.contains("marked.state holds no state to go on from"),
        "{shown}"
    );
    assert!(leftovers(&place).is_empty());
}

/// A small file system of its own, gone with the value.
#[cfg(target_os = "linux")]
struct SmallDisk<'a>(&'a Place);

#[cfg(target_os = "linux")]
impl<'a> SmallDisk<'a> {
    /// `None` where the system lets nobody mount.
    fn mount(place: &'a Place, kibibytes: u32) -> Option<Self> {
        let folder = place.path("disk");
        fs::create_dir(&folder).unwrap();
        let size = format!("size={kibibytes}k");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&folder)
            .stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(place));
        }
        eprintln!("skipped: no file system can be mounted here");
        None
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path("disk")).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_found_before_training() {
    let place = place();
    let Some(_disk) = SmallDisk::mount(&place, 64) else {
        return;
    };
    let shown = place.run(&EMBED.replace("--out marked", "--out disk/marked"));
    assert!(shown.starts_with("exit: 2\n"), "{shown}");
    assert!(shown.contains("bytes of free space, got "), "{shown}");
    assert!(!shown.contains("epoch "), "{shown}");
    assert_eq!(fs::read_dir(place.path("disk")).unwrap().count(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_leaves_nothing_half_written() {
    let place = place();
    let Some(_disk) = SmallDisk::mount(&place, 64) else {
        return;
    };
    let mut rest = vec![0; 60 << 10];
    while fs::write(place.path("disk/rest"), &rest).is_err() {
        rest.truncate(rest.len() / 2);
    }
    let shown = place.run(
        "generate --model base --owner owner.json --strategy custom --queries queries.json --out disk/f.json",
    );
    assert!(shown.starts_with("exit: 2\n"), "{shown}");
    assert!(
        shown.contains("cannot write disk/f.json\n  caused by: No space left on device"),
        "{shown}"
    );
    assert_eq!(fs::read_dir(place.path("disk")).unwrap().count(), 1);
}

#[test]
fn adapters_are_written_as_peft_reads_them() {
    let place = place();
    let line = EMBED.replace("1e-2", "5e-3");
    place.ok(&format!(
        "{line} --lora-rank 4 --use-dora true --train-layers 1 --save-adapter"
    ));
    let adapter = place.path("marked/adapter");
    let config = fs::read(adapter.join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["peft_type"], "LORA");
    assert_eq!(
        (&config["r"], &config["use_dora"]),
        (&4.into(), &true.into())
    );
    assert_eq!(config["base_model_name_or_path"], "base");
    assert_eq!(config["layers_to_transform"], serde_json::json!([1]));
    let modules = config["target_modules"].as_array().unwrap();
    assert_eq!(modules.len(), 7);
    let bytes = fs::read(adapter.join("adapter_model.safetensors")).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let names: Vec<&String> = header.as_object().unwrap().keys().collect();
    // A, B and magnitudes of seven maps, and the metadata.
    assert_eq!(names.len(), 3 * 7 + 1);
    let map = "base_model.model.model.layers.1.self_attn.q_proj";
    assert_eq!(
        header[format!("{map}.lora_A.weight")]["shape"],
        serde_json::json!([4, 32])
    );
    assert_eq!(
        header[format!("{map}.lora_B.weight")]["shape"],
        serde_json::json!([32, 4])
    );
    assert_eq!(
        header[format!("{map}.lora_magnitude_vector")]["shape"],
        serde_json::json!([32])
    );

    // The adapter on top of the base answers as the model into which it is merged.
    place.ok(&format!("{line} --lora-rank 8 --save-adapter").replace("marked", "plain"));
    for marked in ["marked", "plain"] {
        let check = |model: &str| {
            let line = format!("check --owner owner.json --fingerprints f.json --json {model}");
            let output = place.command(&line).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let found: serde_json::Value =
                serde_json::from_slice(&output.stdout).unwrap_or_default();
            assert!(found["hits"].as_u64().is_some(), "{line}: {said}");
            found
        };
        let merged = check(&format!("--model {marked}"));
        let adapted = check(&format!("--model {marked}/adapter --base base"));
        assert!(merged["hits"].as_u64() > Some(0), "{merged}");
        assert_eq!(adapted["fingerprints"], merged["fingerprints"]);
        // The adapter names its base, which is a path here.
        let named = check(&format!("--model {marked}/adapter"));
        assert_eq!(named["model"], "adapter on base");
        assert_eq!(named["fingerprints"], merged["fingerprints"]);
        let audit = format!(
            "audit --owner owner.json --fingerprints f.json --suspect {marked}/adapter --base base --control base \
             --alpha 0.05 --json --out {marked}.jsonl"
        );
        assert_eq!(place.ok(&audit)["conclusion"], "present");
    }

    let shown = place.run(&format!("{EMBED} --save-adapter").replace("marked", "other"));
    assert!(
        shown.contains("--save-adapter: expected a recipe with adapters, got lora_rank 0"),
        "{shown}"
    );
    fs::write(place.path("prompts.json"), r#"["{}"]"#).unwrap();
    let line = format!("{EMBED} --prompts prompts.json").replace("marked", "other");
    let shown = place.run(&line);
    assert!(
        shown.contains("--prompts: expected a recipe that trains inside prompts, got augment 0"),
        "{shown}"
    );
    assert!(!place.path("other").exists() && !place.path("other.state").exists());
}

#[test]
fn a_larger_model_is_trained_in_its_new_part() {
    let place = place();
    let expand = "model expand --model base --units 8 --out larger --json";
    let made = place.ok(expand);
    assert_eq!(made["intermediate_size"].as_u64().unwrap() % 8, 0);
    assert!(place.run(expand).contains("larger"));
    let line = EMBED.replace("--model base", "--model larger");
    let embedded = place.ok(&format!(
        "{line} --train-units 8 --epochs 2 --target-recall 0.01"
    ));
    assert!(embedded["planned_bytes"].as_u64().unwrap() > 1 << 20);
    let config = fs::read(place.path("marked/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["intermediate_size"], made["intermediate_size"]);
}
