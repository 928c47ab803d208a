//! Tests the server on a real loopback socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use weal_dashboard::{Access, Dashboard, Snapshot, serve};

#[tokio::test]
async fn a_shutdown_ends_open_event_streams_and_the_server() {
    let dashboard = Dashboard::new();
    dashboard.publish(Snapshot::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, dashboard, Access::default(), async {
        let _ = stopped.await;
    }));

    let mut reader = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /api/events HTTP/1.1\r\nHost: {address}\r\n\r\n");
    reader.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("event: snapshot") {
        let mut buffer = [0; 4096];
        let read = reader.read(&mut buffer).await.unwrap();
        assert!(
            read > 0,
            "the stream ended early: {}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&buffer[..read]);
    }

    stop.send(()).unwrap();
    let served = tokio::time::timeout(Duration::from_secs(20), server).await;
    served
        .expect("the server did not shut down")
        .unwrap()
        .unwrap();
}
