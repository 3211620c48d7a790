//! Packets of MQTT 3.1.1 as bytes. rumqttc knows how they look; what is done with them is ours:
//! its event loop forgets what was not acknowledged when a clean session begins, and takes no
//! stream of ours.

use rumqttc::mqttbytes::v4::{Connect, LastWill, Packet, Publish};
use rumqttc::mqttbytes::{Error, QoS};

use super::outbox::Message;
use super::settings::Broker;

/// All that a broker has to say to somebody who subscribes to nothing: a welcome, acknowledgements and
/// answers to pings. Their first byte, and the number of bytes after the second.
const KNOWN: [[u8; 2]; 3] = [[0x20, 2], [0x40, 2], [0xd0, 0]];
/// The most bytes of such a packet.
const LONGEST_IN: usize = 4;
/// The most bytes of a packet that we write: a picture, and its topic.
const LONGEST_OUT: usize = 8 << 20;

/// A packet's bytes.
///
/// # Errors
/// It is too long.
pub(super) fn bytes(packet: &Packet) -> Result<Vec<u8>, Error> {
    let mut out = Default::default();
    packet.write(&mut out, LONGEST_OUT)?;
    Ok(out.to_vec())
}

/// Takes the next whole packet out of what was received.
///
/// # Errors
/// It is none, or none that we could have asked for.
pub(super) fn take(received: &mut Vec<u8>) -> Result<Option<Packet>, Error> {
    let begin = &received[..received.len().min(2)];
    if !KNOWN.iter().any(|known| known.starts_with(begin)) {
        return Err(Error::MalformedPacket);
    }
    let mut whole = received.as_slice().into();
    let packet = match Packet::read(&mut whole, LONGEST_IN) {
        Ok(packet) => packet,
        Err(Error::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let used = received.len() - whole.len();
    received.drain(..used);
    Ok(Some(packet))
}

/// The first packet of a connection.
pub(super) fn connect(broker: &Broker, availability: &str, keep_alive_s: u16) -> Packet {
    let mut connect = Connect::new(&broker.client_id);
    connect.keep_alive = keep_alive_s;
    connect.last_will = Some(LastWill::new(availability, "offline", QoS::AtLeastOnce, true));
    if let Some(user) = &broker.user {
        connect.set_login(user, broker.password.as_ref().map_or("", |secret| &secret.0));
    }
    Packet::Connect(connect)
}

/// A message with the number that its acknowledgement will have.
pub(super) fn publish(message: &Message, number: u16) -> Packet {
    let qos = if message.sure { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    let mut publish = Publish::new(&*message.topic, qos, message.payload.to_vec());
    publish.retain = message.retain;
    publish.pkid = if message.sure { number } else { 0 };
    Packet::Publish(publish)
}

#[cfg(test)]
mod tests {
    use rumqttc::mqttbytes::v4::PubAck;

    use super::*;

    #[test]
    fn packets_come_whole_or_not_at_all() {
        let ack = bytes(&Packet::PubAck(PubAck::new(7))).unwrap();
        let mut received = Vec::new();
        for byte in ack.iter().chain(&ack) {
            let whole = received.len() == 4;
            assert_eq!(take(&mut received).unwrap().is_some(), whole);
            received.push(*byte);
        }
        assert_eq!(take(&mut received).unwrap(), Some(Packet::PubAck(PubAck::new(7))));
        assert!(received.is_empty());
    }

    #[test]
    fn what_is_no_packet_is_an_error_and_no_panic() {
        assert!(take(&mut vec![0x30, 0xff, 0xff, 0xff, 0x7f]).is_err(), "256 MiB are announced");
        let mut seed = 1_u32;
        for length in 0..20_000 {
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            };
            let mut received: Vec<u8> = (0..length % 40).map(|_| next()).collect();
            while let Ok(Some(_)) = take(&mut received) {}
        }
    }
}
