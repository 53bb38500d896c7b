//! As much of S3 as the store uses, over HTTP/1.1 on the loopback: one bucket, path style, conditional creation, ranges, pages of
//! a listing. Signatures are not checked.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// How the server treats the requests that come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// As S3 does.
    #[default]
    Sound,
    /// Carries out the next put and closes the connection without a word; sound from then on.
    LosesNextPutsReply,
    /// Carries out puts and closes the connection without a word.
    LosesPutReplies,
    /// Reads puts, carries nothing out, and keeps the connection open without a word.
    NeverAnswersPuts,
    /// Creates over what is there.
    IgnoresConditions,
    /// 503 to all.
    Unavailable,
    /// 403 to all.
    Forbidden,
    /// Ranges come without their last byte.
    CutsRanges,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    behavior: Behavior,
    requests: Vec<String>,
}

/// A handle on the server, which serves until the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    port: u16,
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Response {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
}

impl Response {
    fn new(status: &'static str) -> Self {
        Self {
            status,
            headers: String::new(),
            body: Vec::new(),
        }
    }
}

const PAGE: usize = 100;
const META: &str = "ETag: \"e\"\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n";

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on the loopback");
        let server = Self {
            state: Arc::default(),
            port: listener.local_addr().expect("an address").port(),
        };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                // A connection that breaks is the client's affair.
                std::thread::spawn(move || server.serve(&stream).ok());
            }
        });
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn behave(&self, behavior: Behavior) {
        self.state().behavior = behavior;
    }

    /// Names of the objects.
    pub(crate) fn objects(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Method and path of every request since the last call.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no request panicked")
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        let mut stream = stream;
        while let Some(request) = read(&mut reader)? {
            let behavior = {
                let mut state = self.state();
                let line = format!("{} {}", request.method, request.path);
                state.requests.push(line);
                state.behavior
            };
            let put = request.method == "PUT";
            let response = match behavior {
                Behavior::Unavailable => Response::new("503 Service Unavailable"),
                Behavior::Forbidden => Response::new("403 Forbidden"),
                Behavior::NeverAnswersPuts if put => {
                    // Until the client closes the connection.
                    reader.read_to_end(&mut Vec::new())?;
                    return Ok(());
                }
                _ => self.answer(&request, behavior),
            };
            match behavior {
                Behavior::LosesNextPutsReply if put => {
                    self.behave(Behavior::Sound);
                    return Ok(());
                }
                Behavior::LosesPutReplies if put => return Ok(()),
                _ => {}
            }
            let Response {
                status,
                headers,
                body,
            } = response;
            // A HEAD's answer tells the length of a body that does not come.
            let head = request.method == "HEAD";
            let length = if head {
                String::new()
            } else {
                format!("Content-Length: {}\r\n", body.len())
            };
            let mut answer = format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n").into_bytes();
            answer.extend_from_slice(&body);
            stream.write_all(&answer)?;
            stream.flush()?;
        }
        Ok(())
    }

    fn answer(&self, request: &Request, behavior: Behavior) -> Response {
        let name = request
            .path
            .strip_prefix("/bucket")
            .unwrap_or(&request.path);
        let name = name.trim_start_matches('/').to_owned();
        let mut state = self.state();
        match request.method.as_str() {
            "PUT" => {
                let create = request
                    .headers
                    .get("if-none-match")
                    .is_some_and(|v| v == "*");
                let heeded = create && behavior != Behavior::IgnoresConditions;
                if heeded && state.objects.contains_key(&name) {
                    return Response::new("412 Precondition Failed");
                }
                state.objects.insert(name, request.body.clone());
                let mut response = Response::new("200 OK");
                response.headers = META.to_owned();
                response
            }
            "DELETE" => {
                state.objects.remove(&name);
                Response::new("204 No Content")
            }
            "GET" if name.is_empty() => list(&state.objects, &request.query),
            "GET" | "HEAD" => {
                let Some(object) = state.objects.get(&name) else {
                    let mut response = Response::new("404 Not Found");
                    if request.method == "HEAD" {
                        response.headers = "Content-Length: 0\r\n".to_owned();
                    }
                    return response;
                };
                let mut response = Response::new("200 OK");
                response.headers = META.to_owned();
                if request.method == "HEAD" {
                    response.headers += &format!("Content-Length: {}\r\n", object.len());
                    return response;
                }
                let range = request
                    .headers
                    .get("range")
                    .and_then(|v| v.strip_prefix("bytes="));
                let Some((start, last)) = range.and_then(|v| v.split_once('-')) else {
                    response.body.clone_from(object);
                    return response;
                };
                let start: usize = start.parse().expect("a range's first byte");
                let end = last
                    .parse::<usize>()
                    .map_or(object.len(), |last| last + 1)
                    .min(object.len());
                response.status = "206 Partial Content";
                let end = if behavior == Behavior::CutsRanges {
                    end - 1
                } else {
                    end
                };
                let (shown, of) = (end.max(1) - 1, object.len());
                response.headers += &format!("Content-Range: bytes {start}-{shown}/{of}\r\n");
                response.body = object[start.min(end)..end].to_vec();
                response
            }
            _ => Response::new("405 Method Not Allowed"),
        }
    }
}

fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|v| v.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some(Request {
        method,
        path: decode(path),
        query: query.to_owned(),
        headers,
        body,
    }))
}

fn list(objects: &BTreeMap<String, Vec<u8>>, query: &str) -> Response {
    let of = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(n, _)| *n == name).map(|(_, v)| decode(v));
        values.next().unwrap_or_default()
    };
    let (prefix, after) = (of("prefix"), of("continuation-token"));
    let found: Vec<_> = objects
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix) && **name > after)
        .collect();
    let mut xml = "<?xml version=\"1.0\"?><ListBucketResult>".to_owned();
    for (name, bytes) in found.iter().take(PAGE) {
        xml += &format!(
            "<Contents><Key>{name}</Key><LastModified>1970-01-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag>\
             <Size>{}</Size></Contents>",
            bytes.len()
        );
    }
    let more = found.len() > PAGE;
    if let (true, Some((last, _))) = (more, found.get(PAGE - 1)) {
        xml += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
    }
    xml += &format!("<IsTruncated>{more}</IsTruncated></ListBucketResult>");
    let mut response = Response::new("200 OK");
    response.headers = "Content-Type: application/xml\r\n".to_owned();
    response.body = xml.into_bytes();
    response
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match (first, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
