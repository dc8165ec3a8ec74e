//! An S3 server that says what it is told to, one answer a request, and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An answer; `body` may be shorter than the length that it announces.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    announced_bytes: usize,
}

pub fn answer(status: u16, body: impl Into<String>) -> Answer {
    let body = body.into();
    Answer { status, headers: Vec::new(), announced_bytes: body.len(), body }
}

/// An error as S3 writes it.
pub fn error(status: u16, code: &str) -> Answer {
    answer(status, format!("<Error><Code>{code}</Code><Message>says {code}</Message></Error>"))
}

impl Answer {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn broken_off_after(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }
}

#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Answer>,
    asked: Vec<String>,
    bodies: Vec<Sent>,
}

/// The body of a request, and how long it took to come after its head.
#[derive(Debug, Clone)]
pub struct Sent {
    pub bytes: Vec<u8>,
    pub took: Duration,
}

pub struct Canned {
    endpoint: String,
    script: Arc<Mutex<Script>>,
    accepting: JoinHandle<()>,
}

impl Canned {
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let script = Arc::new(Mutex::new(Script { answers: answers.into_iter().collect(), ..Script::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let shared = script.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let _ = serve(socket, &shared).await;
            }
        });
        Self { endpoint, script, accepting }
    }

    /// The head of each request so far, in lower case.
    pub fn asked(&self) -> Vec<String> {
        self.script.lock().expect("no panic before").asked.clone()
    }

    /// The body of each request so far.
    pub fn bodies(&self) -> Vec<Sent> {
        self.script.lock().expect("no panic before").bodies.clone()
    }
}

/// One request a connection.
async fn serve(socket: TcpStream, script: &Mutex<Script>) -> std::io::Result<()> {
    let mut connection = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && connection.read_line(&mut head).await? > 0 {}
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut bytes = vec![0; length];
    let begun = Instant::now();
    connection.read_exact(&mut bytes).await?;
    let took = begun.elapsed();
    let answer = {
        let mut script = script.lock().expect("no panic before");
        script.asked.push(head);
        script.bodies.push(Sent { bytes, took });
        script.answers.pop_front().unwrap_or_else(|| error(500, "NothingLeftToSay"))
    };
    let mut text = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", answer.status);
    text += &format!("Content-Length: {}\r\n", answer.announced_bytes);
    for (name, value) in &answer.headers {
        text += &format!("{name}: {value}\r\n");
    }
    text = text + "\r\n" + &answer.body;
    connection.write_all(text.as_bytes()).await?;
    connection.shutdown().await
}

impl super::Server for Canned {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn bucket(&self) -> &str {
        "bucket"
    }

    fn access_key_id(&self) -> &str {
        "test-key"
    }

    fn secret_access_key(&self) -> &str {
        "test-secret"
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
