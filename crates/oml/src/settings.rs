//! Where a setting comes from: flags, then `OML_*` in the environment, then a recipe file, then `oml.toml`, then defaults.
//!
//! Every long flag has all of these without a line of its own. `--count` of `oml generate` is `OML_GENERATE_COUNT` in the
//! environment and `count` under `[generate]` in `oml.toml`; a global flag such as `--threads` is `OML_THREADS`, and
//! `threads` at the top of the file, and so are `--owner` and `--model`, which many commands share. The values of files become the
//! defaults of the flags before these are read, so one parser checks a value wherever it comes from.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};
use serde::Serialize;

use crate::cli::Cli;
use crate::commands::embed::{is_recipe_key, recipe_keys};
use crate::files;
use crate::nearest::suggestion;

/// Flags whose meaning does not depend on the command.
const SHARED: [&str; 2] = ["owner", "model"];
const FILE_NAME: &str = "oml.toml";
const FILE_LIMIT: usize = 1 << 20;
/// Flags that choose what is read rather than what is done.
const NOT_IN_FILES: [&str; 4] = ["config", "show-settings", "help", "version"];

/// What the process was given besides its arguments.
pub(crate) struct Environment {
    /// `OML_CONFIG`.
    config: Option<PathBuf>,
    folder: PathBuf,
}

impl Environment {
    /// Reads the environment of the running process.
    pub(crate) fn of_process() -> Self {
        Self {
            config: std::env::var_os("OML_CONFIG")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            folder: PathBuf::from(""),
        }
    }
}

/// The command to run, and where each of its settings came from.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) cli: Cli,
    pub(crate) settings: Settings,
}

/// Why there is no command to run.
#[derive(Debug)]
pub(crate) enum ParseError {
    /// The flags are wrong, or ask for help.
    Usage(clap::Error),
    /// A settings file is wrong.
    File(anyhow::Error),
}

impl From<clap::Error> for ParseError {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

impl From<anyhow::Error> for ParseError {
    fn from(error: anyhow::Error) -> Self {
        Self::File(error)
    }
}

/// Reads flags, environment and settings files into one command.
///
/// # Errors
/// When a flag or a file is wrong, or help was asked for.
pub(crate) fn parse(
    arguments: &[OsString],
    environment: &Environment,
) -> Result<Parsed, ParseError> {
    let bare = with_environment(Cli::command(), &mut Vec::new());
    let mut command = bare.clone();
    let mut origins = BTreeMap::new();

    let file = config_file(arguments, environment);
    if let Some(path) = &file {
        let table = read_table(path)?;
        command = with_table(command, &table, &mut Vec::new(), path, &mut origins)?;
    }

    let read = |command: &Command, origins: &Origins| {
        let matches = command.clone().try_get_matches_from(arguments);
        matches.map_err(|error| {
            // What is also wrong without the files is not their fault.
            let same = |other: &clap::Error| {
                (other.kind(), faulty_flag(other)) == (error.kind(), faulty_flag(&error))
            };
            match bare.clone().try_get_matches_from(arguments) {
                Err(other) if same(&other) => ParseError::Usage(error),
                _ => blame(error, origins),
            }
        })
    };
    let mut matches = read(&command, &origins)?;
    if let Some(path) = recipe_file(&matches) {
        let recipe = read_table(&path)?;
        if let Some(key) = recipe.keys().find(|key| !is_recipe_key(key)) {
            let meant = suggestion(key, recipe_keys());
            return Err(anyhow!("{}: unknown key {key}{meant}", path.display()).into());
        }
        let table = toml::Table::from_iter([("embed".to_owned(), toml::Value::Table(recipe))]);
        command = with_table(command, &table, &mut Vec::new(), &path, &mut origins)?;
        // In a recipe its keys stand alone.
        for origin in origins.values_mut().filter(|origin| origin.file == path) {
            if let Some(key) = origin.key.strip_prefix("embed.") {
                origin.key = key.to_owned();
            }
        }
        matches = read(&command, &origins)?;
    }
    command.build();
    let settings = Settings::of(&command, &matches, &origins);
    let cli = Cli::from_arg_matches(&matches).map_err(|error| {
        let given = faulty_flag(&error).is_some_and(|flag| is_given(&matches, &flag));
        if given {
            ParseError::Usage(error)
        } else {
            blame(error, &origins)
        }
    })?;
    Ok(Parsed { cli, settings })
}

/// The long flag whose value is at fault.
fn faulty_flag(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(usage) => {
            let long = usage.strip_prefix("--")?;
            Some(long.split_whitespace().next()?.to_owned())
        }
        _ => None,
    }
}

/// Whether a flag of the chosen command has its value from the command line or the environment.
fn is_given(mut matches: &ArgMatches, flag: &str) -> bool {
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    let id = flag.replace('-', "_");
    let known = matches.ids().any(|known| known.as_str() == id);
    known
        && matches!(
            matches.value_source(&id),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        )
}

/// Names file and key of a faulty value that came from a file.
fn blame(error: clap::Error, origins: &Origins) -> ParseError {
    let origin = faulty_flag(&error).and_then(|flag| {
        let of_flag = |path: &str| path.rsplit('.').next() == Some(flag.as_str());
        origins.iter().find(|(path, _)| of_flag(path))
    });
    let Some((_, Origin { file, key })) = origin else {
        return ParseError::Usage(error);
    };
    let text = error.to_string();
    // The first paragraph: the fault, without usage and advice.
    let fault = text.split("\n\n").next().unwrap_or(&text);
    let fault = fault.strip_prefix("error: ").unwrap_or(fault);
    let fault = fault.split_whitespace().collect::<Vec<_>>().join(" ");
    ParseError::File(anyhow!("{}: {key}: {fault}", file.display()))
}

/// Gives every long flag its environment variable.
fn with_environment(mut command: Command, path: &mut Vec<String>) -> Command {
    let prefix = path.clone();
    command = command.mut_args(|arg| match arg.get_long() {
        Some(long) if !["help", "version"].contains(&long) => {
            let name = variable(&prefix, long);
            let arg = match arg.get_action() {
                // OML_JSON=1 and the like.
                ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
                _ => arg,
            };
            // An empty variable is an unset one.
            match std::env::var_os(&name) {
                Some(value) if value.is_empty() => arg,
                _ => arg.env(name).hide_env(true),
            }
        }
        _ => arg,
    });
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    for name in names {
        path.push(name.clone());
        command = command.mut_subcommand(name, |sub| with_environment(sub, path));
        path.pop();
    }
    command
}

/// `OML_GENERATE_COUNT` for `--count` of `oml generate`, `OML_OWNER` for a flag that commands share.
fn variable(path: &[String], long: &str) -> String {
    let mut words = vec!["oml"];
    if !SHARED.contains(&long) {
        words.extend(path.iter().map(String::as_str));
    }
    words.push(long);
    words.join("_").replace('-', "_").to_uppercase()
}

/// Where each value read from a file came from, by command and flag (`embed.learning-rate`).
type Origins = BTreeMap<String, Origin>;

/// One value in a file.
struct Origin {
    file: PathBuf,
    /// As the file calls it.
    key: String,
}

/// Turns the values of a settings file into defaults of the flags they name.
fn with_table(
    mut command: Command,
    table: &toml::Table,
    path: &mut Vec<String>,
    file: &Path,
    origins: &mut Origins,
) -> anyhow::Result<Command> {
    for (key, value) in table {
        let flag = key.replace('_', "-");
        let name = path
            .iter()
            .chain([key])
            .cloned()
            .collect::<Vec<_>>()
            .join(".");
        let has_subcommand = command.get_subcommands().any(|sub| sub.get_name() == flag);
        let id = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(&flag))
            .map(|arg| arg.get_id().clone());
        match (value, id) {
            (toml::Value::Table(inner), _) if has_subcommand => {
                path.push(flag.clone());
                let mut result = Ok(());
                command = command.mut_subcommand(&flag, |sub| {
                    with_table(sub.clone(), inner, path, file, origins).unwrap_or_else(|error| {
                        result = Err(error);
                        sub
                    })
                });
                path.pop();
                result?;
            }
            (value, Some(id)) if !NOT_IN_FILES.contains(&flag.as_str()) => {
                let values = texts(value).with_context(|| format!("{}: {name}", file.display()))?;
                command = command.mut_arg(id, |arg| match arg.get_action() {
                    ArgAction::Append => arg.required(false).default_values(values),
                    _ => arg.required(false).default_value(values.join(",")),
                });
                origins.insert(
                    path.iter()
                        .chain([&flag])
                        .cloned()
                        .collect::<Vec<_>>()
                        .join("."),
                    Origin {
                        file: file.to_owned(),
                        key: name,
                    },
                );
            }
            // A shared flag at the top of the file goes to every command that has it.
            (value, None) if path.is_empty() && SHARED.contains(&flag.as_str()) => {
                let values = texts(value).with_context(|| format!("{}: {name}", file.display()))?;
                command = with_shared(command, &flag, &values);
                let file = file.to_owned();
                origins.insert(flag, Origin { file, key: name });
            }
            _ => {
                let flags = command.get_arguments().filter_map(|arg| arg.get_long());
                let commands = command.get_subcommands().map(Command::get_name);
                let shared = SHARED.into_iter().filter(|_| path.is_empty());
                let known = flags.chain(commands).chain(shared);
                let known = known.filter(|name| !NOT_IN_FILES.contains(name) && *name != flag);
                let meant = suggestion(&flag, known);
                bail!("{}: unknown setting {name}{meant}", file.display())
            }
        }
    }
    Ok(command)
}

fn with_shared(mut command: Command, flag: &str, values: &[String]) -> Command {
    command = command.mut_args(|arg| match arg.get_long() {
        Some(long) if long == flag && arg.get_default_values().is_empty() => {
            arg.required(false).default_values(values.to_vec())
        }
        _ => arg,
    });
    command.mut_subcommands(|sub| with_shared(sub, flag, values))
}

/// A TOML value as the words that would stand on the command line.
fn texts(value: &toml::Value) -> anyhow::Result<Vec<String>> {
    Ok(match value {
        toml::Value::String(text) => vec![text.clone()],
        toml::Value::Integer(number) => vec![number.to_string()],
        toml::Value::Float(number) => vec![number.to_string()],
        toml::Value::Boolean(truth) => vec![truth.to_string()],
        toml::Value::Array(items) => items
            .iter()
            .map(texts)
            .collect::<anyhow::Result<Vec<_>>>()?
            .concat(),
        other => bail!(
            "expected text, a number, true, false or a list of them, got a {}",
            other.type_str()
        ),
    })
}

fn read_table(path: &Path) -> anyhow::Result<toml::Table> {
    files::read_text(path, FILE_LIMIT)?
        .parse()
        .with_context(|| format!("cannot read {} as TOML", path.display()))
}

/// The settings file: named by `--config` or `OML_CONFIG`, or `oml.toml` in the current folder where there is one.
fn config_file(arguments: &[OsString], environment: &Environment) -> Option<PathBuf> {
    let after = |at: usize| arguments.get(at + 1).map(PathBuf::from);
    let named = arguments
        .iter()
        .enumerate()
        .find_map(|(at, argument)| match argument.to_str() {
            Some("--config") => after(at),
            Some(text) => text.strip_prefix("--config=").map(PathBuf::from),
            None => None,
        });
    let usual = environment.folder.join(FILE_NAME);
    named
        .or_else(|| environment.config.clone())
        .or_else(|| usual.is_file().then_some(usual))
}

fn recipe_file(matches: &ArgMatches) -> Option<PathBuf> {
    let (_, embed) = matches.subcommand().filter(|(name, _)| *name == "embed")?;
    embed.get_one::<PathBuf>("recipe").cloned()
}

/// Every setting of the chosen command with its value and where that came from.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    command: String,
    settings: BTreeMap<String, Setting>,
}

#[derive(Debug, Serialize)]
struct Setting {
    value: String,
    source: String,
}

impl Settings {
    fn of(root: &Command, matches: &ArgMatches, origins: &Origins) -> Self {
        let (mut command, mut matches, mut path) = (root, matches, Vec::new());
        while let Some((name, inner)) = matches.subcommand() {
            let Some(sub) = command.find_subcommand(name) else {
                break;
            };
            (command, matches) = (sub, inner);
            path.push(name.to_owned());
        }
        let settings = command
            .get_arguments()
            .filter(|arg| {
                !NOT_IN_FILES.contains(&arg.get_id().as_str()) && arg.get_id() != "show_settings"
            })
            .filter_map(|arg| {
                let id = arg.get_id().as_str();
                let name = arg.get_long().map_or_else(|| id.to_owned(), str::to_owned);
                let source = matches.value_source(id)?;
                let words: Vec<_> = matches.get_raw(id)?.map(OsStr::to_string_lossy).collect();
                let own = path
                    .iter()
                    .chain([&name])
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(".");
                let from_file = origins.get(&own).or_else(|| origins.get(&name));
                let source = match (source, from_file) {
                    (ValueSource::CommandLine, _) => "command line".to_owned(),
                    (ValueSource::EnvVariable, _) => variable_of(arg),
                    (_, Some(origin)) => origin.file.display().to_string(),
                    _ => "default".to_owned(),
                };
                Some((
                    name,
                    Setting {
                        value: without_password(&words.join(" ")),
                        source,
                    },
                ))
            })
            .collect();
        Self {
            command: path.join(" "),
            settings,
        }
    }
}

/// A value without the password that a URL in it may hold.
fn without_password(value: &str) -> String {
    let password = || {
        let start = value.find("://")? + 3;
        let authority = value[start..].split(['/', '?', '#', ' ']).next()?;
        let (user, _) = authority.rsplit_once('@')?;
        let (name, secret) = user.split_once(':')?;
        let from = start + name.len() + 1;
        Some(from..from + secret.len())
    };
    let shown = value.to_owned();
    password().map_or(shown, |at| {
        format!("{}…{}", &value[..at.start], &value[at.end..])
    })
}

fn variable_of(arg: &clap::Arg) -> String {
    arg.get_env().map_or_else(
        || anyhow!("environment").to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "oml {}", self.command)?;
        let width = self.settings.keys().map(String::len).max().unwrap_or(0);
        for (name, setting) in &self.settings {
            writeln!(
                f,
                "  {name:width$} = {}  ({})",
                setting.value, setting.source
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_in(folder: &Path, line: &str) -> Result<Parsed, ParseError> {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(
            &arguments,
            &Environment {
                config: None,
                folder: folder.to_owned(),
            },
        )
    }

    fn shown(folder: &Path, line: &str) -> String {
        match parse_in(folder, line) {
            Ok(parsed) => parsed
                .settings
                .to_string()
                .replace(&folder.display().to_string(), "FOLDER"),
            Err(ParseError::Usage(error)) => error.to_string(),
            Err(ParseError::File(error)) => {
                format!("{error:#}").replace(&folder.display().to_string(), "FOLDER")
            }
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for (value, expected) in [
            ("postgres://oml:hunter2@db/x", "postgres://oml:…@db/x"),
            ("postgres://oml:a:b@c@db/x", "postgres://oml:…@db/x"),
            ("postgres://oml@db/x", "postgres://oml@db/x"),
            ("postgres://db/x?a=b:c@d", "postgres://db/x?a=b:c@d"),
            ("oml-replay.redb", "oml-replay.redb"),
        ] {
            assert_eq!(without_password(value), expected);
        }
    }

    #[test]
    fn definitions_are_sound() {
        with_environment(Cli::command(), &mut Vec::new()).debug_assert();
    }

    #[test]
    fn names_of_variables() {
        assert_eq!(variable(&[], "threads"), "OML_THREADS");
        assert_eq!(variable(&["check".into()], "owner"), "OML_OWNER");
        assert_eq!(
            variable(&["bench".into(), "step".into()], "top-k"),
            "OML_BENCH_STEP_TOP_K"
        );
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join(FILE_NAME),
            "threads = 3\nmodel = \"m\"\n[generate]\ncount = 7\nk = 5\n",
        )
        .unwrap();
        insta::assert_snapshot!(shown(folder.path(), "oml generate --out f.json --k 4"), @"
        oml generate
          copy-id              =   (default)
          count                = 7  (FOLDER/oml.toml)
          first-token          = word  (default)
          generator-allow-http = false  (default)
          generator-timeout    = 60  (default)
          json                 = false  (default)
          k                    = 4  (command line)
          model                = m  (FOLDER/oml.toml)
          out                  = f.json  (command line)
          perplexity-band      = 1-99  (default)
          query-length         = 16  (default)
          query-style          = sentence  (default)
          query-temperature    = 0.5  (default)
          quiet                = false  (default)
          response-length      = 1  (default)
          responses            = 1  (default)
          resume               = false  (default)
          save-seconds         = 60  (default)
          strategy             = perinucleus  (default)
          t                    = 0.8  (default)
          threads              = 3  (FOLDER/oml.toml)
        ");
    }

    #[test]
    fn a_recipe_wins_over_the_settings_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = "[embed]\nlearning_rate = 1e-3\nepochs = 3\ntarget_modules = [\"q_proj\", \"v_proj\"]\n";
        std::fs::write(folder.path().join(FILE_NAME), file).unwrap();
        let recipe = folder.path().join("recipe.toml");
        std::fs::write(&recipe, "learning_rate = 1e-4\n").unwrap();
        let line = format!(
            "oml embed --model m --fingerprints f --out o --beta1 0.8 --recipe {}",
            recipe.display()
        );
        insta::assert_snapshot!(shown(folder.path(), &line), @"
        oml embed
          augment                = 0  (default)
          augment-padding        = 0  (default)
          average                = 0  (default)
          average-at             = step  (default)
          batch-size             = 64  (default)
          benign-batch           = 12  (default)
          benign-length          = 32  (default)
          benign-sequences       = 0  (default)
          benign-target          = base  (default)
          beta1                  = 0.8  (command line)
          beta2                  = 0.95  (default)
          distance               = 0  (default)
          epochs                 = 3  (FOLDER/oml.toml)
          eps                    = 1e-8  (default)
          evaluate-every         = 8  (default)
          final-learning-rate    = 1e-5  (default)
          fingerprints           = f  (command line)
          full-pass-every        = 4  (default)
          gradient-checkpointing = false  (default)
          json                   = false  (default)
          kl-weight              = 1  (default)
          learning-rate          = 0.0001  (FOLDER/recipe.toml)
          lora                   = false  (default)
          lora-alpha             = 32  (default)
          lora-rank              = 0  (default)
          mask-share             = 0  (default)
          max-grad-norm          = 1  (default)
          merge-share            = 0  (default)
          micro-batch-tokens     = 2048  (default)
          model                  = m  (command line)
          momentum               = 0.9  (default)
          optimizer              = adamw  (default)
          out                    = o  (command line)
          persist-batch          = 8  (default)
          persist-distance       = 1e-5  (default)
          persist-every          = 2  (default)
          persist-steps          = 0  (default)
          quiet                  = false  (default)
          recipe                 = FOLDER/recipe.toml  (command line)
          resume                 = false  (default)
          save-adapter           = false  (default)
          save-seconds           = 120  (default)
          schedule               = linear  (default)
          seed                   = 0  (default)
          settle-epochs          = 8  (default)
          skip-loss              = 0.3  (default)
          target-modules         = q_proj,v_proj  (FOLDER/oml.toml)
          target-prompted-recall = 0.98  (default)
          target-recall          = 0.999  (default)
          train-layers           =   (default)
          train-modules          =   (default)
          train-units            = 0  (default)
          use-dora               = false  (default)
          warmup-steps           = 2  (default)
          weight-decay           = 0  (default)
        ");
    }

    #[test]
    fn faults_in_a_recipe_name_it_and_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = folder.path().join("recipe.toml");
        let line = format!(
            "oml embed --model m --fingerprints f --out o --recipe {}",
            recipe.display()
        );
        for (content, fault) in [
            (
                "epochs = \"many\"",
                "FOLDER/recipe.toml: epochs: invalid value 'many' for '--epochs <N>': expected a whole number",
            ),
            (
                "learning_rate = 2",
                "FOLDER/recipe.toml: learning_rate: recipe key 'learning_rate': expected above 0 and below 1, got 2",
            ),
            (
                "schedule = \"zigzag\"",
                "FOLDER/recipe.toml: schedule: invalid value 'zigzag' for '--schedule <NAME>': expected constant, linear or cosine",
            ),
            (
                "lora = 3",
                "FOLDER/recipe.toml: lora: invalid value '3' for '--lora'",
            ),
            ("out = \"x\"", "FOLDER/recipe.toml: unknown key out"),
            ("model = \"x\"", "FOLDER/recipe.toml: unknown key model"),
            ("colour = 1", "FOLDER/recipe.toml: unknown key colour"),
            (
                "learnin_rate = 1",
                "FOLDER/recipe.toml: unknown key learnin_rate (did you mean learning_rate?)",
            ),
            (
                "[embed]\nepochs = 1",
                "FOLDER/recipe.toml: unknown key embed",
            ),
        ] {
            std::fs::write(&recipe, content).unwrap();
            let got = shown(folder.path(), &line);
            assert!(got.starts_with(fault), "{content}: {got}");
        }
        // What the command line says is at fault there.
        std::fs::write(&recipe, "epochs = 3").unwrap();
        let own = shown(folder.path(), &format!("{line} --epochs many"));
        assert!(own.starts_with("error: invalid value 'many'"), "{own}");
    }

    #[test]
    fn faults_in_the_file_name_the_file_and_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        for (content, fault) in [
            ("colour = 1", "FOLDER/oml.toml: unknown setting colour"),
            ("[check]\nk = 1", "FOLDER/oml.toml: unknown setting check.k"),
            ("config = \"x\"", "FOLDER/oml.toml: unknown setting config"),
            ("embed = 1", "FOLDER/oml.toml: unknown setting embed"),
            (
                "ownr = \"x\"",
                "FOLDER/oml.toml: unknown setting ownr (did you mean owner?)",
            ),
            (
                "[embed]\nepoch = 1",
                "FOLDER/oml.toml: unknown setting embed.epoch (did you mean epochs?)",
            ),
            (
                "threads = \"all\"",
                "FOLDER/oml.toml: threads: invalid value 'all' for '--threads <N>': invalid digit found in string",
            ),
            (
                "threads = 1979-05-27",
                "FOLDER/oml.toml: threads: expected text, a number, true, false or a list of them, got a datetime",
            ),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(shown(folder.path(), "oml keygen"), fault);
        }
    }
}
