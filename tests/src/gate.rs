//! What may stand between two programs on a network and break: connections that end, and connections
//! on which nobody answers any more.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::watch,
};

/// A gate before a server: whoever connects to it gets through to the server. Gone when dropped.
pub struct Gate {
    /// Where it listens.
    pub address: SocketAddr,
    answers: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

impl Gate {
    /// An open gate before a server that listens there.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub fn before(server: SocketAddr) -> Self {
        let runtime = Runtime::new().expect("runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("listener");
        let address = listener.local_addr().expect("address");
        let answers = watch::Sender::new(true);
        let pass = answers.subscribe();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, server, pass.clone()));
            }
        });
        Self { address, answers, runtime: Some(runtime) }
    }

    /// From now on what the server answers does not get through, on connections that are there and on
    /// new ones; what it is asked does. No connection ends.
    pub fn withhold_answers(&self) {
        self.answers.send_replace(false);
    }

    /// Ends every connection and refuses new ones, as the death of the server's machine does.
    pub fn cut(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn connect(client: TcpStream, server: SocketAddr, pass: watch::Receiver<bool>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((asked, answer), (answered, ask)) = (client.into_split(), server.into_split());
    tokio::join!(carry(asked, ask, None), carry(answered, answer, Some(pass)));
}

/// Carries what comes from one end to the other, while that may pass.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut pass: Option<watch::Receiver<bool>>,
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut bytes).await {
        // The end of a connection does not pass either.
        if let Some(pass) = &mut pass
            && pass.wait_for(|pass| *pass).await.is_err()
        {
            return;
        }
        if length == 0 || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
