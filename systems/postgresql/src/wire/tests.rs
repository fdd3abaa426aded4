use super::*;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

const REFUSAL: &[u8] = b"SERROR\0VERROR\0C42P01\0Mno such relation\0Hlook again\0t\0\0";

/// A server that says this, in pieces of some bytes, whatever it hears.
fn serve(bytes: Vec<u8>, piece: usize) -> Wire {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    tokio::spawn(async move {
        for piece in bytes.chunks(piece) {
            if theirs.write_all(piece).await.is_err() {
                return;
            }
        }
        // Nothing more will come, but what we say is still heard.
        let _ = theirs.shutdown().await;
        let _ = tokio::io::copy(&mut theirs, &mut tokio::io::sink()).await;
    });
    Wire::new(Stream::Socket(ours))
}

async fn pieces(wire: &mut Wire) -> Result<Vec<Vec<u8>>> {
    let (mut all, mut found) = (Vec::new(), Vec::new());
    loop {
        let next = wire.pieces(&mut found)?;
        all.extend(found.iter().map(|piece| wire.bytes()[piece.clone()].to_vec()));
        match next {
            Next::More => {}
            Next::End => return Ok(all),
            Next::Wait => wire.fill().await?,
        }
    }
}

#[tokio::test]
async fn a_copy_is_read_whatever_pieces_it_arrives_in() {
    let rows: Vec<Vec<u8>> = [0, 1, 300, 70_000, 2].iter().map(|n| vec![*n as u8; *n]).collect();
    let mut bytes = message(b'N', b"SNOTICE\0Mby the way\0\0");
    bytes.extend(message(b'H', &[1, 0, 1, 0, 1]));
    for (i, row) in rows.iter().enumerate() {
        bytes.extend(message(b'd', row));
        if i == 2 {
            bytes.extend(message(b'S', b"TimeZone\0UTC\0"));
        }
    }
    bytes.extend(message(b'c', b""));
    bytes.extend(message(b'C', b"COPY 5\0"));
    bytes.extend(message(b'Z', b"T"));
    // What the next statement is answered.
    bytes.extend(message(b'C', b"COMMIT\0"));
    bytes.extend(message(b'Z', b"I"));
    for piece in [1, 7, 4096, bytes.len()] {
        let mut wire = serve(bytes.clone(), piece);
        wire.copy("COPY t TO STDOUT").await.unwrap();
        assert_eq!(pieces(&mut wire).await.unwrap(), rows, "{piece}");
        assert_eq!(wire.run("COMMIT").await.unwrap(), None);
    }
    // A connection that breaks anywhere is an error, never a shorter table.
    for end in (0..bytes.len() - 23).step_by(977) {
        let mut wire = serve(bytes[..end].to_vec(), end.max(1));
        let read = async {
            wire.copy("COPY t TO STDOUT").await?;
            pieces(&mut wire).await
        };
        assert_eq!(read.await.unwrap_err().kind(), ErrorKind::Unreachable, "{end}");
    }
}

#[tokio::test]
async fn the_servers_refusal_is_an_error_and_the_session_goes_on() {
    let bytes = [
        message(b'T', b"\0\0"),
        message(b'D', &[0, 2, 0, 0, 0, 3, b'1', b'.', b'5', 0xff, 0xff, 0xff, 0xff]),
        message(b'C', b"SELECT 1\0"),
        message(b'E', REFUSAL),
        message(b'Z', b"E"),
        message(b'D', &[0, 1, 0xff, 0xff, 0xff, 0xff]),
        message(b'Z', b"I"),
        message(b'H', &[1, 0, 1, 0, 1]),
        message(b'd', b"row"),
        message(b'E', REFUSAL),
    ];
    let mut wire = serve(bytes.concat(), 64);
    let error = wire.run("SELECT 1.5, NULL; SELECT 1 FROM t").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("no such relation; look again"), "{error}");
    assert_eq!(wire.run("SELECT NULL").await.unwrap(), None);
    wire.copy("COPY t TO STDOUT").await.unwrap();
    assert_eq!(pieces(&mut wire).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_no_message_is_an_error() {
    for bytes in
        [vec![b'd', 0, 0, 0, 3, 0], vec![b'd', 0xff, 0xff, 0xff, 0xff, 0], message(b'G', b""), message(b'D', b"")]
    {
        let mut wire = serve(bytes, 64);
        assert_eq!(wire.run("SELECT 1").await.unwrap_err().kind(), ErrorKind::Remote);
    }
    assert_eq!(messages::first_value(&[0, 1, 0, 0, 0, 9, b'x']).unwrap_err().kind(), ErrorKind::Remote);
}

/// A server that asks for a login, checks what it is answered, and lets in or not.
async fn login(asks: Vec<u8>, expected: &'static [u8], says: Vec<u8>) -> Result<()> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let server = tokio::spawn(async move {
        let length = theirs.read_u32().await.unwrap();
        let mut startup = vec![0; length as usize - 4];
        theirs.read_exact(&mut startup).await.unwrap();
        assert!(startup.starts_with(b"\0\x03\0\0user\0me\0database\0shop\0client_encoding\0UTF8\0"), "{startup:?}");
        theirs.write_all(&asks).await.unwrap();
        let mut answer = vec![0; expected.len()];
        theirs.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, expected);
        theirs.write_all(&says).await.unwrap();
        let _ = tokio::io::copy(&mut theirs, &mut tokio::io::sink()).await;
    });
    let url = crate::url::PgUrl::parse("postgres://me:secret@h/shop").unwrap();
    let options = crate::options::options(&url, "h", 5432).unwrap();
    let logged_in = Wire::new(Stream::Socket(ours)).greet(&Login::new(&url, &options)).await.map(drop);
    server.await.unwrap();
    logged_in
}

#[tokio::test]
async fn passwords_are_sent_as_the_server_asks_for_them() {
    let ask = |method: u32, more: &[u8]| message(b'R', &[&method.to_be_bytes(), more].concat());
    let welcome = || {
        let key = [77u32.to_be_bytes(), 5u32.to_be_bytes()].concat();
        [ask(0, b""), message(b'S', b"a\0b\0"), message(b'K', &key), message(b'Z', b"I")].concat()
    };
    login(ask(3, b""), b"p\0\0\0\x0bsecret\0", welcome()).await.unwrap();
    let hash = b"p\0\0\0\x28md541c83370953958037c7298c50b238bda\0";
    login(ask(5, b"salt"), hash, welcome()).await.unwrap();
    login(welcome(), b"", Vec::new()).await.unwrap();
    let refused = message(b'E', b"SFATAL\0C28P01\0Mno\0\0");
    assert_eq!(login(ask(3, b""), b"p\0\0\0\x0bsecret\0", refused).await.unwrap_err().kind(), ErrorKind::Denied);
    // Kerberos; and a list of methods without ours.
    assert_eq!(login(ask(7, b""), b"", Vec::new()).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(login(ask(10, b"OAUTH\0\0"), b"", Vec::new()).await.unwrap_err().kind(), ErrorKind::Denied);
    // The beginning of SCRAM, to which the server says what is no challenge.
    let begins = b"p\0\0\0\x36SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=";
    let lists = ask(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    assert_eq!(login(lists, begins, ask(11, b"nonsense")).await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn garbage_is_an_error_and_no_panic() {
    let clean = [
        message(b'H', &[1, 0, 1, 0, 1]),
        message(b'd', b"a row of some length"),
        message(b'd', b"another"),
        message(b'E', REFUSAL),
        message(b'c', b""),
        message(b'C', b"COPY 2\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    let mut state = 1u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for _ in 0..2000 {
        let mut bytes = clean.clone();
        for _ in 0..1 + next(4) {
            let at = next(bytes.len());
            bytes[at] = [0, 0xff, b'd', b'Z', b'E', next(256) as u8][next(6)];
        }
        let mut wire = serve(bytes, 1 + next(40));
        if wire.copy("COPY t TO STDOUT").await.is_ok() {
            let _ = pieces(&mut wire).await;
        }
    }
}
