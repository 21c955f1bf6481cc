//! What the client adds to one question: the time of a question and its answer over HTTP/1.1 on loopback with a kept connection,
//! beside the same bytes through a bare socket, and the client's own reading and writing alone.

#![allow(missing_docs)]

use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use oml_server::endpoint::{Api, Asker, EndpointOptions, Question, read_reply};

/// The longest question of a usual set, with scores.
const QUESTION: Question<'_> = Question {
    system: Some("You are a helpful assistant."),
    text: "Which of the large rivers of Europe flow into the Black Sea, and through which countries do they run on the way?",
    answer: "",
    max_tokens: 16,
    log_probabilities: true,
    seed: 1,
};

/// Sixteen tokens with five alternatives each, as llama.cpp's server writes them.
fn answer() -> String {
    let other = |i| {
        format!(
            r#"{{"id":{i},"token":" river","bytes":[32,114,105],"logprob":-{i}.25889989733695984}}"#
        )
    };
    let others: Vec<_> = (1..6).map(other).collect();
    let others = others.join(",");
    let token = format!(
        r#"{{"id":1,"token":" river","bytes":[32,114,105],"logprob":-1.25889989733695984,"top_logprobs":[{others}]}}"#
    );
    let tokens = vec![token; 16].join(",");
    format!(
        r#"{{"choices":[{{"index":0,"finish_reason":"length","message":{{"role":"assistant","content":"{}"}},"logprobs":{{"content":[{tokens}]}}}}],"model":"m","usage":{{"total_tokens":40}}}}"#,
        " river".repeat(16)
    )
}

/// A server that answers every request of every connection with the same bytes.
fn serve(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || converse(stream, &answer));
        }
    });
    address
}

fn converse(mut stream: TcpStream, answer: &[u8]) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        skip_message(&mut reader)?;
        stream.write_all(answer).ok()?;
    }
}

/// Reads a request or an answer to its end.
fn skip_message(reader: &mut BufReader<TcpStream>) -> Option<()> {
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()
}

fn questions(criterion: &mut Criterion) {
    let body = answer();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let address = serve([head.as_bytes(), body.as_bytes()].concat());
    let options = EndpointOptions::new(&format!("http://{address}"), "m");
    let asker = Asker::new(options, Api::Chat).expect("a URL of loopback");
    let request = asker.request(&QUESTION).expect("a chat's question");

    let mut group = criterion.benchmark_group("endpoint");
    group
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    let mut stream = TcpStream::connect(&address).expect("the server listens");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut reader = BufReader::new(stream.try_clone().expect("a TCP socket"));
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n",
        request.len()
    );
    let bytes = [head.as_bytes(), &request].concat();
    group.bench_function("bare socket", |bencher| {
        bencher.iter(|| {
            stream.write_all(&bytes).expect("the server reads");
            skip_message(&mut reader).expect("the server answers");
        });
    });
    group.bench_function("asker", |bencher| {
        bencher.iter(|| {
            let request = asker.request(&QUESTION).expect("a chat's question");
            asker.send(&request, &mut |_| {}).expect("an answer")
        });
    });
    group.bench_function("write and read alone", |bencher| {
        bencher.iter(|| {
            let request = asker
                .request(black_box(&QUESTION))
                .expect("a chat's question");
            let reply = read_reply(Api::Chat, black_box(body.as_bytes())).expect("an answer");
            (request, reply)
        });
    });
    group.finish();
}

criterion_group!(benches, questions);
criterion_main!(benches);
