//! Programs that read what `fusion follow` prints.

use std::process::{Command, Output, Stdio};

use crate::network::{Devnet, send_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_leaves_ends_follow_and_gets_the_rest_the_next_time() {
    let devnet = Devnet::start(18_100);
    let client = devnet.client().await;
    send_all(&client, "line", 3, &mut Vec::new()).await;
    let home = devnet.nodes[0].home.parent().unwrap().to_owned();
    let follow = |limit: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fusion"));
        command.args([
            "follow",
            "--rollup",
            "1001",
            "--limit",
            limit,
            "--url",
            &devnet.nodes[0].url,
        ]);
        command.arg("--genesis").arg(home.join("genesis.json"));
        command.arg("--cursor").arg(home.join("cursor"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut left = follow("1000000").spawn().unwrap();
    drop(left.stdout.take());
    // It would follow for ever.
    assert_eq!(left.wait().unwrap().code(), Some(0));

    let lines = |output: Output| String::from_utf8(output.stdout).unwrap();
    let first = lines(follow("1").output().unwrap());
    assert!(first.starts_with("sequence 0 "), "{first}");
    let second = lines(follow("1").output().unwrap());
    assert!(second.starts_with("sequence 1 "), "{second}");
}
