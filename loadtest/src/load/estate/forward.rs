//! A forwarder to the emulators, as a process of its own. Stopped with SIGSTOP, it cuts its site off as a broken
//! network does: connections stay open and nothing is answered.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::Fallible;

/// Forwards a port of its own to each URL (`http://address:port`), and prints the URLs of these ports, one per line.
/// Runs until the process is ended.
///
/// # Errors
/// A URL is none, or no port can be bound.
pub async fn forward(urls: &[String]) -> Fallible<()> {
    let mut tasks = Vec::new();
    for url in urls {
        let target: SocketAddr = url
            .strip_prefix("http://")
            .and_then(|address| address.trim_end_matches('/').parse().ok())
            .ok_or_else(|| format!("{url}: write http://ADDRESS:PORT"))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("http://{}", listener.local_addr()?);
        tasks.push(tokio::spawn(accept(listener, target)));
    }
    for task in tasks {
        task.await?;
    }
    Ok(())
}

async fn accept(listener: TcpListener, target: SocketAddr) {
    while let Ok((mut near, _)) = listener.accept().await {
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(target).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let _ = copy_bidirectional(&mut near, &mut far).await;
        });
    }
}
