//! `bucket-server PORT DIRECTORY`: buckets are the directories in it. The key that it lets in is in
//! `BUCKET_ACCESS_KEY` and `BUCKET_SECRET_KEY`.
#![allow(clippy::expect_used)] // a test fails loudly

use std::env;

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    let mut args = env::args().skip(1);
    let port: u16 = args.next().and_then(|port| port.parse().ok()).expect("a port");
    let files = FileSystem::new(args.next().expect("a directory")).expect("its directory");
    let key = |name: &str| env::var(name).expect("a key in the environment");
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(key("BUCKET_ACCESS_KEY"), key("BUCKET_SECRET_KEY")));
    let service = service.build();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("its port");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let service = service.clone();
        tokio::spawn(async move {
            let server = Builder::new(TokioExecutor::new());
            // A client that hangs up is no fault of the server's.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
