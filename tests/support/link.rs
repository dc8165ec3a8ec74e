//! A loopback line to an S3 server that counts what goes up, and that can be cut in the middle and mended.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::Server;

pub struct Link<'a> {
    server: &'a dyn Server,
    endpoint: String,
    line: Arc<Line>,
}

struct Line {
    /// Host and port of the server.
    to: String,
    uploaded: AtomicU64,
    /// It breaks once so many bytes have gone up.
    breaks_at: AtomicU64,
    cut: AtomicBool,
    /// Both ends of every connection.
    open: Mutex<Vec<TcpStream>>,
}

impl<'a> Link<'a> {
    pub fn to(server: &'a dyn Server) -> Self {
        let line = Arc::new(Line {
            to: server.endpoint().trim_start_matches("http://").to_owned(),
            uploaded: AtomicU64::new(0),
            breaks_at: AtomicU64::new(u64::MAX),
            cut: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let accepting = Arc::clone(&line);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.connect(client);
            }
        });
        Self { server, endpoint, line }
    }

    /// Bytes that went up so far, headers and all.
    pub fn uploaded(&self) -> u64 {
        self.line.uploaded.load(Ordering::SeqCst)
    }

    /// Lets the line break when so many more bytes have gone up.
    pub fn break_after(&self, bytes: u64) {
        self.line.breaks_at.store(self.uploaded() + bytes, Ordering::SeqCst);
    }

    pub fn is_cut(&self) -> bool {
        self.line.cut.load(Ordering::SeqCst)
    }

    pub fn mend(&self) {
        self.line.breaks_at.store(u64::MAX, Ordering::SeqCst);
        self.line.cut.store(false, Ordering::SeqCst);
    }
}

impl Line {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        if self.cut.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(&self.to) else { return };
        let copy = |end: &TcpStream| end.try_clone().expect("a second handle");
        self.open.lock().expect("no panic before").extend([copy(&client), copy(&server)]);
        let (up, down) = ((copy(&client), copy(&server)), (server, client));
        let line = Arc::clone(self);
        std::thread::spawn(move || line.carry(up.0, up.1, true));
        let line = Arc::clone(self);
        std::thread::spawn(move || line.carry(down.0, down.1, false));
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, up: bool) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            if up && self.uploaded.fetch_add(bytes as u64, Ordering::SeqCst) >= self.breaks_at.load(Ordering::SeqCst) {
                self.break_now();
            }
            if to.write_all(&buffer[..bytes]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// New connections are refused from now on, and those that are open end in the middle.
    fn break_now(&self) {
        self.cut.store(true, Ordering::SeqCst);
        for end in self.open.lock().expect("no panic before").drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Server for Link<'_> {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn bucket(&self) -> &str {
        self.server.bucket()
    }

    fn access_key_id(&self) -> &str {
        self.server.access_key_id()
    }

    fn secret_access_key(&self) -> &str {
        self.server.secret_access_key()
    }
}
