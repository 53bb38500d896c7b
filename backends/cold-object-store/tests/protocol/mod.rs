//! The S3 server of the s3s project over a temporary folder, on the loopback of this process. It checks signatures, and it is by other hands
//! than the client. Faults come from a wrapper around it.
//!
//! As shipped its conditional puts check and then write. One lock around everything but GET and HEAD makes them whole.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::access::S3Access;
use s3s::auth::SimpleAuth;
use s3s::dto::PutObjectInput;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Request, S3Result};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::sync::Mutex;

pub(crate) const BUCKET: &str = "bucket";
pub(crate) const KEY_ID: &str = "AKEYID";
pub(crate) const SECRET: &str = "hush";

/// What goes wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// So many puts and deletes are carried out, and the connection then breaks without a word.
    pub(crate) lose_replies: AtomicU32,
    /// Every so-many-th request is answered 503 SlowDown and not carried out; 0 for none.
    pub(crate) fail_every: AtomicU64,
    /// Conditional puts are taken for plain ones.
    pub(crate) ignore_conditions: AtomicBool,
    requests: AtomicU64,
}

/// The server; it serves until it is dropped.
pub(crate) struct Server {
    pub(crate) faults: Arc<Faults>,
    port: u16,
    folder: TempDir,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Server {
    /// A test is on a runtime, where another may not be waited for.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        fs::create_dir(folder.path().join(BUCKET)).expect("a bucket");
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).expect("a store"));
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let faults = Arc::new(Faults::default());
        builder.set_access(Conditions(faults.clone()));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on the loopback");
        listener.set_nonblocking(true).expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        // A runtime of its own: the tests' runtimes end before the stores that talk to the server.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.spawn(serve(listener, service, faults.clone()));
        Self {
            faults,
            port,
            folder,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Names of the files in the bucket, folders left out.
    pub(crate) fn objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.folder.path().join(BUCKET), &mut found);
        found.sort();
        found
    }
}

fn collect(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a readable folder").flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), found);
        } else {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service, faults: Arc<Faults>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let writing = Arc::new(Mutex::new(()));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (service, faults, writing) = (service.clone(), faults.clone(), writing.clone());
        let answer = move |request| {
            let (service, faults, writing) = (service.clone(), faults.clone(), writing.clone());
            async move { faults.answer(request, &service, &writing).await }
        };
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            // A connection that breaks is what some tests are about.
            connection.await.ok();
        });
    }
}

impl Faults {
    /// An error makes the server break the connection.
    async fn answer(
        &self,
        request: Request<Incoming>,
        service: &S3Service,
        writing: &Mutex<()>,
    ) -> Result<Response<s3s::Body>, Lost> {
        let number = self.requests.fetch_add(1, SeqCst) + 1;
        let every = self.fail_every.load(SeqCst);
        if every > 0 && number.is_multiple_of(every) {
            return Ok(slow_down());
        }
        let method = request.method().clone();
        // To its end: a refusal while the client still sends would reach it as a broken connection.
        let (head, body) = request.into_parts();
        let body: Vec<Bytes> = s3s::Body::from(body)
            .try_collect()
            .await
            .map_err(|_| Lost)?;
        let request = Request::from_parts(head, s3s::Body::from(body.concat()));
        let changes = method != Method::GET && method != Method::HEAD;
        let _one_at_a_time = if changes {
            Some(writing.lock().await)
        } else {
            None
        };
        let answer = service.call(request).await.map_err(|_| Lost)?;
        let lose = |n: u32| n.checked_sub(1);
        if changes && self.lose_replies.fetch_update(SeqCst, SeqCst, lose).is_ok() {
            return Err(Lost);
        }
        Ok(answer)
    }
}

/// Takes conditions away after the signature was checked.
#[derive(Debug)]
struct Conditions(Arc<Faults>);

#[async_trait]
impl S3Access for Conditions {
    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        if self.0.ignore_conditions.load(SeqCst) {
            request.input.if_none_match = None;
        }
        Ok(())
    }
}

fn slow_down() -> Response<s3s::Body> {
    let text = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    let mut answer = Response::new(s3s::Body::from(text.to_owned()));
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer
}

/// The reply is lost.
#[derive(Debug)]
pub(crate) struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("lost on purpose")
    }
}

impl std::error::Error for Lost {}
