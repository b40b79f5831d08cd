use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::clock::now;

const PATIENCE: Duration = Duration::from_secs(120);

/// Both ends of a connection through a relay.
struct Ends {
    relay: Relay,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

async fn ends() -> Ends {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::start(listener.local_addr().unwrap(), 7).await.unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(relay.addr()), listener.accept());
    relay.until(PATIENCE, |counts| counts.open == 1).await.unwrap();
    Ends { relay, listener, client: client.unwrap(), server: accepted.unwrap().0 }
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("in time").unwrap();
    bytes
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[tokio::test]
async fn whatever_the_weather_bytes_arrive_whole_and_in_order() {
    let some = Duration::from_millis(2);
    for weather in [
        Weather::FINE,
        Weather { delay: some, jitter: Duration::from_millis(10), ..Weather::FINE },
        Weather { cut: Some(1), ..Weather::FINE },
        Weather { cut: Some(7), jitter: some, ..Weather::FINE },
        Weather { gather: Some((1500, Duration::from_millis(20))), ..Weather::FINE },
    ] {
        let Ends { relay, mut client, mut server, .. } = ends().await;
        relay.set_both(weather);
        let sent = pattern(2000);
        for piece in sent.chunks(100) {
            client.write_all(piece).await.unwrap();
        }
        server.write_all(&sent).await.unwrap();
        assert_eq!(read(&mut server, 2000).await, sent, "{weather:?}");
        assert_eq!(read(&mut client, 2000).await, sent, "{weather:?}");
        let counts = relay
            .until(PATIENCE, |counts| counts.back == 2000 && counts.there == 2000)
            .await
            .unwrap();
        assert_eq!((counts.lost, counts.corrupted), (0, 0));
        relay.stop().await;
    }
}

#[tokio::test]
async fn delay_and_rate_take_their_time() {
    let Ends { relay, mut client, mut server, .. } = ends().await;
    relay.set(Way::There, Weather { delay: Duration::from_millis(50), ..Weather::FINE });
    relay.set(Way::Back, Weather { rate: Some(10_000), cut: Some(100), ..Weather::FINE });
    let start = now();
    client.write_all(b"x").await.unwrap();
    read(&mut server, 1).await;
    assert!(now() - start >= Duration::from_millis(50));
    let start = now();
    server.write_all(&pattern(1000)).await.unwrap();
    read(&mut client, 1000).await;
    assert!(
        now() - start >= Duration::from_millis(85),
        "a tenth of a second, but for the last piece"
    );
}

#[tokio::test]
async fn one_byte_in_so_many_is_changed() {
    let Ends { relay, mut client, mut server, .. } = ends().await;
    relay.set(Way::There, Weather { corrupt_one_in: Some(50), ..Weather::FINE });
    let sent = pattern(20_000);
    client.write_all(&sent).await.unwrap();
    let got = read(&mut server, 20_000).await;
    let changed = got.iter().zip(&sent).filter(|(got, sent)| got != sent).count();
    assert!((200..800).contains(&changed), "about 400 of 20,000: {changed}");
    assert_eq!(relay.counts().corrupted, changed as u64);
}

#[tokio::test]
async fn a_black_hole_swallows_and_a_stall_holds_up() {
    let Ends { relay, mut client, mut server, .. } = ends().await;
    relay.set(Way::There, Weather::LOST);
    client.write_all(b"gone").await.unwrap();
    relay.until(PATIENCE, |counts| counts.lost == 4).await.unwrap();
    relay.set(Way::There, Weather::STALLED);
    // The sender's window fills up, so the sender notices; nothing is lost.
    let big = pattern(16 << 20);
    let mut sent = 0;
    while let Ok(wrote) =
        tokio::time::timeout(Duration::from_millis(200), client.write(&big[sent..])).await
    {
        sent += wrote.unwrap();
    }
    assert!(sent < big.len());
    relay.set(Way::There, Weather::FINE);
    assert_eq!(read(&mut server, sent).await, big[..sent]);
    assert_eq!(relay.counts().lost, 4);
}

#[tokio::test]
async fn a_forgotten_connection_is_dead_and_a_new_one_lives() {
    let Ends { relay, listener, mut client, mut server } = ends().await;
    relay.forget();
    client.write_all(b"hello").await.unwrap();
    server.write_all(b"hello").await.unwrap();
    relay.until(PATIENCE, |counts| counts.lost == 10).await.unwrap();
    let (again, accepted) = tokio::join!(TcpStream::connect(relay.addr()), listener.accept());
    again.unwrap().write_all(b"hello").await.unwrap();
    assert_eq!(read(&mut accepted.unwrap().0, 5).await, b"hello");
}

#[tokio::test]
async fn a_reset_reaches_both_ends_and_a_half_close_one() {
    let Ends { relay, mut client, mut server, .. } = ends().await;
    relay.half_close(Way::There);
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0, "the end of what the client says");
    server.write_all(b"still here").await.unwrap();
    assert_eq!(read(&mut client, 10).await, b"still here");

    let Ends { relay, mut client, mut server, .. } = ends().await;
    relay.reset();
    for stream in [&mut client, &mut server] {
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    relay.until(PATIENCE, |counts| counts.open == 0).await.unwrap();
}

#[tokio::test]
async fn what_is_injected_comes_between() {
    let Ends { relay, mut client, mut server, .. } = ends().await;
    client.write_all(b"one\n").await.unwrap();
    assert_eq!(read(&mut server, 4).await, b"one\n");
    relay.inject(Way::There, b"two\n");
    assert_eq!(read(&mut server, 4).await, b"two\n");
}

#[tokio::test]
async fn an_end_that_closes_ends_the_other() {
    let Ends { relay, client, mut server, .. } = ends().await;
    drop(client);
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    drop(server);
    relay.until(PATIENCE, |counts| counts.open == 0).await.unwrap();
}
