use super::*;
use tokio::net::UnixStream;

fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut parts: Vec<&[u8]> = body.chunks(MAX_PACKET).collect();
    if body.len().is_multiple_of(MAX_PACKET) {
        parts.push(&[]);
    }
    for (i, part) in parts.iter().enumerate() {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
        out.push(sequence.wrapping_add(i as u8));
        out.extend_from_slice(part);
    }
    out
}

fn cell(out: &mut Vec<u8>, value: Option<&[u8]>) {
    let Some(value) = value else { return out.push(0xfb) };
    match value.len() {
        n @ 0..=250 => out.push(n as u8),
        n @ 251..=0xffff => out.extend([&[0xfc][..], &(n as u16).to_le_bytes()].concat()),
        n @ 0x10000..=0xff_ffff => out.extend([&[0xfd][..], &(n as u32).to_le_bytes()[..3]].concat()),
        n => out.extend([&[0xfe][..], &(n as u64).to_le_bytes()].concat()),
    }
    out.extend_from_slice(value);
}

/// A result of one column list and these rows, ended as a server with DEPRECATE_EOF ends it.
fn result(rows: &[Vec<Option<Vec<u8>>>], width: usize) -> Vec<u8> {
    let mut out = packet(1, &[width as u8]);
    for _ in 0..width {
        out.extend(packet(2, b"\x03def"));
    }
    for row in rows {
        let mut body = Vec::new();
        row.iter().for_each(|value| cell(&mut body, value.as_deref()));
        out.extend(packet(3, &body));
    }
    out.extend(packet(4, &[0xfe, 0, 0, 2, 0, 0, 0]));
    out
}

async fn serve(bytes: Vec<u8>, piece: usize) -> Wire {
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

async fn rows(wire: &mut Wire) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
    let (mut all, mut cells) = (Vec::new(), Vec::new());
    loop {
        cells.clear();
        match wire.next_row(&mut cells)? {
            Next::Row => all.push(cells.iter().map(|c| c.of(wire.bytes()).map(<[u8]>::to_vec)).collect()),
            Next::End => return Ok(all),
            Next::Wait => wire.fill().await?,
        }
    }
}

#[tokio::test]
async fn rows_arrive_whatever_pieces_they_come_in() {
    let sent: Vec<Vec<Option<Vec<u8>>>> = (0..300usize)
        .map(|i| vec![Some(i.to_string().into_bytes()), (i % 3 > 0).then(|| vec![b'x'; i * 7]), Some(Vec::new())])
        .collect();
    for piece in [1, 5, 1000, 1 << 20] {
        let mut wire = serve(result(&sent, 3), piece).await;
        assert!(matches!(wire.query("SELECT").await.unwrap(), Answer::Rows));
        assert_eq!(rows(&mut wire).await.unwrap(), sent, "{piece}");
    }
}

#[tokio::test]
async fn a_row_longer_than_a_packet_is_put_together() {
    let exact = MAX_PACKET - 5;
    let sent: Vec<Vec<Option<Vec<u8>>>> = [MAX_PACKET + 10, 3, 2 * MAX_PACKET + 100, exact, 1]
        .iter()
        .map(|n| vec![Some((0..*n).map(|i| (i % 251) as u8).collect()), Some(b"end".to_vec())])
        .collect();
    let mut wire = serve(result(&sent, 2), 1 << 20).await;
    wire.query("SELECT").await.unwrap();
    assert!(rows(&mut wire).await.unwrap() == sent);
    assert!(wire.buffer.capacity() < 128 << 20);
}

#[tokio::test]
async fn the_servers_fault_ends_the_rows_and_its_end_breaks_them() {
    let mut bytes = result(&[vec![Some(b"1".to_vec())]], 1);
    bytes.truncate(bytes.len() - 11);
    let broken = bytes.clone();
    bytes.extend(packet(4, b"\xff\x25\x05#70100Query execution was interrupted"));
    let mut wire = serve(bytes, 7).await;
    wire.query("SELECT").await.unwrap();
    let error = rows(&mut wire).await.unwrap_err();
    assert!(error.message().contains("killed the statement"), "{error}");
    let mut wire = serve(broken, 7).await;
    wire.query("SELECT").await.unwrap();
    assert_eq!(rows(&mut wire).await.unwrap_err().kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn results_that_follow_are_drained() {
    let mut bytes = packet(1, &[0, 0, 0, 0x0a, 0, 0, 0]);
    let mut more = result(&[vec![Some(b"1".to_vec())]], 1);
    let status = more.len() - 4;
    more[status] = 0x0a;
    bytes.extend(more);
    bytes.extend(packet(1, &[0, 1, 0, 2, 0, 0, 0]));
    bytes.extend(packet(1, b"\xff\x28\x04#42000wrong"));
    let mut wire = serve(bytes, 3).await;
    wire.run("SET a = 1; SELECT 1; SET b = 2").await.unwrap();
    let error = wire.run("nonsense").await.unwrap_err();
    assert!(error.message().starts_with("wrong"), "{error}");
}

/// Whatever comes, it is rows, an end or a fault.
#[tokio::test]
async fn random_packets_are_rows_or_faults() {
    let (mut state, mut faults, mut found) = (7u64, 0, 0);
    let mut next = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for _ in 0..3000 {
        let mut bytes = result(&[vec![Some(b"12".to_vec()), None], vec![None, Some(vec![b'y'; 300])]], 2);
        for _ in 0..next(4) {
            let at = next(bytes.len() as u64) as usize;
            bytes[at] = next(256) as u8;
        }
        let piece = 1 + next(64) as usize;
        let mut wire = serve(bytes, piece).await;
        match wire.query("SELECT").await {
            Ok(Answer::Rows) => match rows(&mut wire).await {
                Ok(_) => found += 1,
                Err(_) => faults += 1,
            },
            Ok(Answer::Done) => {}
            Err(_) => faults += 1,
        }
    }
    assert!(faults > 200 && found > 500, "{faults} faults, {found} results");
}
