//! One connection to a broker: what is sent, what must be acknowledged, and how it is noticed that
//! nobody is there any more.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use rumqttc::mqttbytes::v4::{ConnectReturnCode, Packet};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};

use super::outbox::{Message, Outbox};
use super::settings::Broker;
use super::wire;

/// How often the broker is asked whether it is there.
const PING: Duration = Duration::from_secs(15);
/// How long an answer may take, and a piece of data to be taken.
const ANSWER: Duration = Duration::from_secs(10);
/// Messages that may wait for their acknowledgement.
const WINDOW: usize = 16;

/// What a connection is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why a connection failed, for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fault(pub(super) String);

/// One connection.
pub(super) struct Session<'a> {
    stream: Box<dyn Stream>,
    outbox: &'a Outbox,
    /// The broker, for people.
    place: String,
    received: Vec<u8>,
    /// Sent and not acknowledged, in the order in which they were sent: the number that the
    /// acknowledgement has, and the message's in the outbox.
    sent: VecDeque<(u16, u64)>,
    number: u16,
    /// Since when an answer is due.
    due: Option<Instant>,
    useful: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(stream: Box<dyn Stream>, outbox: &'a Outbox, place: String) -> Self {
        let (received, sent) = (Vec::new(), VecDeque::new());
        Self { stream, outbox, place, received, sent, number: 0, due: None, useful: false }
    }

    /// Whether anything has arrived over this connection.
    pub(super) fn useful(&self) -> bool {
        self.useful
    }

    fn fault(&self, why: impl std::fmt::Display) -> Fault {
        Fault(format!("{} {why}", self.place))
    }

    /// Says who we are and waits for the welcome.
    pub(super) async fn enter(&mut self, broker: &Broker, availability: &str) -> Result<(), Fault> {
        let keep_alive_s = (PING.as_secs() * 2) as u16;
        self.send(&wire::connect(broker, availability, keep_alive_s)).await?;
        let code = loop {
            match self.take()? {
                Some(Packet::ConnAck(welcome)) => break welcome.code,
                Some(_) => return Err(self.fault("does not speak MQTT 3.1.1")),
                None => self.receive().await?,
            }
        };
        let user = broker.user.as_deref();
        Err(match (code, user) {
            (ConnectReturnCode::Success, _) => return Ok(()),
            (ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized, None) => {
                self.fault("wants a user and a password: mqtt://USER@…, password_file")
            }
            (
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
                Some(user),
            ) => self.fault(format_args!("refuses the user '{user}' or its password")),
            (ConnectReturnCode::BadClientId, _) => {
                self.fault(format_args!("refuses the client_id '{}'", broker.client_id))
            }
            (code, _) => self.fault(format_args!("refuses the connection: {code:?}")),
        })
    }

    /// Sends the greeting and then what is in the outbox, until that is closed and all has
    /// arrived; then says goodbye.
    pub(super) async fn talk(
        &mut self,
        greeting: Vec<Message>,
        availability: &str,
    ) -> Result<(), Fault> {
        let mut greeting = VecDeque::from(greeting);
        let mut last = 0;
        let mut ping = Instant::now() + PING;
        let mut leaving = false;
        loop {
            while self.sent.len() < WINDOW {
                let message = greeting.pop_front().or_else(|| self.outbox.after(last));
                let Some(message) = message else { break };
                last = last.max(message.id);
                self.publish(&message).await?;
            }
            if self.sent.is_empty() && self.outbox.is_over() && self.outbox.after(last).is_none() {
                if leaving {
                    self.send(&Packet::Disconnect).await?;
                    let _ = timeout(ANSWER, self.stream.shutdown()).await;
                    return Ok(());
                }
                leaving = true;
                greeting.push_back(Message::value(availability, "offline"));
                continue;
            }
            let now = Instant::now();
            if self.due.is_some_and(|due| now >= due + ANSWER) {
                let why = format!("has not answered for {} s", ANSWER.as_secs());
                return Err(self.fault(why));
            }
            if now >= ping {
                self.send(&Packet::PingReq).await?;
                self.due.get_or_insert(now);
                ping = now + PING;
            }
            let until = self.due.map_or(ping, |due| ping.min(due + ANSWER));
            self.wait(until).await?;
            while let Some(packet) = self.take()? {
                self.hear(&packet)?;
            }
        }
    }

    async fn publish(&mut self, message: &Message) -> Result<(), Fault> {
        if message.sure {
            self.number = self.number.checked_add(1).unwrap_or(1);
            self.sent.push_back((self.number, message.id));
            self.due.get_or_insert_with(Instant::now);
        }
        self.send(&wire::publish(message, self.number)).await?;
        if !message.sure {
            self.outbox.done(message.id);
        }
        Ok(())
    }

    fn hear(&mut self, packet: &Packet) -> Result<(), Fault> {
        match packet {
            Packet::PubAck(ack) => {
                let Some(place) = self.sent.iter().position(|(number, _)| *number == ack.pkid)
                else {
                    return Err(self.fault("acknowledges what was not sent"));
                };
                if let Some((_, id)) = self.sent.remove(place) {
                    self.outbox.done(id);
                }
                self.useful = true;
            }
            Packet::PingResp => {}
            _ => return Err(self.fault("sends what was not asked for")),
        }
        self.due = (!self.sent.is_empty()).then(Instant::now);
        Ok(())
    }

    /// Waits for the broker, for news in the outbox, or until a time.
    async fn wait(&mut self, until: Instant) -> Result<(), Fault> {
        let mut piece = [0; 256];
        let outcome = {
            let read = pin!(self.stream.read(&mut piece));
            let news = pin!(self.outbox.news.notified());
            let time = pin!(sleep_until(until));
            match select(read, select(news, time)).await {
                Either::Left((read, _)) => Some(read),
                Either::Right(_) => None,
            }
        };
        match outcome {
            Some(read) => self.received(read, &piece),
            None => Ok(()),
        }
    }

    async fn receive(&mut self) -> Result<(), Fault> {
        let mut piece = [0; 256];
        let read = self.stream.read(&mut piece).await;
        self.received(read, &piece)
    }

    fn received(&mut self, read: std::io::Result<usize>, piece: &[u8]) -> Result<(), Fault> {
        match read {
            Ok(0) => Err(self.fault("closed the connection")),
            Ok(length) => {
                self.received.extend_from_slice(&piece[..length]);
                Ok(())
            }
            Err(error) => Err(self.fault(format_args!("is gone: {error}"))),
        }
    }

    fn take(&mut self) -> Result<Option<Packet>, Fault> {
        wire::take(&mut self.received)
            .map_err(|e| self.fault(format_args!("does not speak MQTT 3.1.1: {e}")))
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), Fault> {
        let bytes = wire::bytes(packet).map_err(|e| self.fault(e))?;
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        match timeout(ANSWER, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.fault(format_args!("is gone: {error}"))),
            Err(_) => Err(self.fault("takes nothing any more")),
        }
    }
}
