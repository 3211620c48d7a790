//! The way to the broker: a connection that is made again whenever it fails, at longer and longer
//! intervals, for as long as we watch.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::bus::Bus;
use super::outbox::{Message, Outbox};
use super::session::{Fault, Session, Stream};
use super::settings::Broker;
use super::tls::Connector;

/// From the first byte to the broker's welcome.
const WELCOME: Duration = Duration::from_secs(5);
/// The longest pause before the broker is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long what is left is tried to be sent when we end.
const FAREWELL: Duration = Duration::from_millis(1200);

/// One broker, and what is said to it.
pub(super) struct Link {
    pub(super) broker: Broker,
    pub(super) outbox: Arc<Outbox>,
    pub(super) bus: Bus,
    /// Where we say that we are there.
    pub(super) availability: String,
    /// Said first on each connection, after that.
    pub(super) greeting: Vec<Message>,
}

impl Link {
    /// Sends until the outbox is closed and empty, or it is time to end.
    pub(super) async fn run(self) {
        let first_pause = self.broker.first_pause;
        let mut pause = first_pause;
        loop {
            let (fault, useful) = match self.connection().await {
                Ok(()) => return,
                Err(failed) => failed,
            };
            if useful {
                pause = first_pause;
            }
            self.bus.report("mqtt", Some(fault.to_string()));
            if !self.rest(pause).await {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection, from its beginning to its end; when it fails, why, and whether it was of
    /// any use before that.
    async fn connection(&self) -> Result<(), (Fault, bool)> {
        let place = self.place();
        let opened = match timeout(WELCOME, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(Fault(format!("{place} cannot be reached: no answer"))),
        };
        let stream = opened.map_err(|fault| (fault, false))?;
        let mut session = Session::new(stream, &self.outbox, place);
        let welcome = timeout(WELCOME, session.enter(&self.broker, &self.availability)).await;
        match welcome {
            Ok(entered) => entered.map_err(|fault| (fault, false))?,
            Err(_) => {
                let why = format!("{} says nothing; is it a broker for MQTT?", self.place());
                return Err((Fault(why), false));
            }
        }
        self.bus.report("mqtt", None);
        tracing::info!("mqtt: {} hears us", self.place());
        let mut greeting = vec![Message::value(&self.availability, "online")];
        greeting.extend(self.greeting.iter().cloned());
        greeting.extend(self.outbox.remembered());
        session.talk(greeting, &self.availability).await.map_err(|fault| (fault, session.useful()))
    }

    async fn open(&self) -> Result<Box<dyn Stream>, Fault> {
        let Broker { host, port, tls, .. } = &self.broker;
        let place = self.place();
        let fault = |e: std::io::Error| Fault(format!("{place} cannot be reached: {e}"));
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(fault)?;
        tcp.set_nodelay(true).map_err(fault)?;
        let Some(tls) = tls else { return Ok(Box::new(tcp)) };
        // Read again each time: certificates are renewed.
        let tls = Connector::new(tls, host).map_err(Fault)?;
        let secured = tls.connector.connect(tls.name, tcp).await;
        let fault = |e: std::io::Error| Fault(format!("{place} is not trusted, or no TLS: {e}"));
        Ok(Box::new(secured.map_err(fault)?))
    }

    fn place(&self) -> String {
        format!("broker {}:{}", self.broker.host, self.broker.port)
    }

    /// Waits before the next attempt; whether there shall be one.
    async fn rest(&self, pause: Duration) -> bool {
        // Between half of it and all: devices that lost the same broker do not come back as one.
        let share = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
        let next = Instant::now() + pause.mul_f64(0.5 + 0.5 * share);
        loop {
            if self.outbox.is_over() && self.outbox.is_empty() {
                return false;
            }
            let news = std::pin::pin!(self.outbox.news.notified());
            let time = std::pin::pin!(sleep_until(next));
            use futures_util::future::{Either, select};
            if let Either::Right(_) = select(news, time).await {
                return true;
            }
        }
    }
}

/// Runs a link on this thread; at its end it has at most [`FAREWELL`] for what is left.
pub(super) fn run(link: Link) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // Names are looked up there.
        .max_blocking_threads(1)
        .build()?;
    let outbox = Arc::clone(&link.outbox);
    let pulse = link.bus.pulse("mqtt");
    runtime.block_on(async {
        let watch = async {
            while !outbox.is_over() {
                pulse.beat();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tokio::time::sleep(FAREWELL).await;
        };
        let (link, watch) = (std::pin::pin!(link.run()), std::pin::pin!(watch));
        futures_util::future::select(link, watch).await;
    });
    // A name that is being looked up for minutes is nothing to wait for.
    runtime.shutdown_background();
    Ok(())
}
