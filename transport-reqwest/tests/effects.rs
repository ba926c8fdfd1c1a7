//! The effects that are not HTTP.

use std::time::{Duration, Instant};

use grantflow::{Cx, Effect, Machine, Reply, Step};
use grantflow_reqwest::{Transport, grantflow};

/// Asks for one effect after another, and notes the replies.
struct Script(Vec<Effect>, Vec<String>);

impl Machine for Script {
    type Output = Vec<String>;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Vec<String>> {
        assert!(cx.random::<32>("test").is_ok());
        self.1.push(format!("{reply:?}"));
        if self.0.is_empty() { Step::Done(Ok(std::mem::take(&mut self.1))) } else { Step::Do(self.0.remove(0)) }
    }
}

#[tokio::test]
async fn effects_are_carried_out_one_after_another() {
    let nowhere = std::env::temp_dir().join("grantflow-reqwest-no-such-file");
    let effects = vec![
        Effect::Env("PATH"),
        Effect::Sleep(Duration::from_millis(30)),
        Effect::Env("GRANTFLOW_NO_SUCH_VARIABLE"),
        Effect::ReadFile { path: nowhere, max: 1 },
    ];
    let (transport, start) = (Transport::new().unwrap(), Instant::now());
    let before = transport.now();
    let replies = transport.run(Script(effects, Vec::new())).await.unwrap();
    assert_eq!(replies, ["Start", "Env(set)", "Slept", "Env(unset)", "Missing"]);
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert!(transport.now().mono - before.mono >= Duration::from_millis(30));
    assert!(transport.now().wall.since(before.wall) >= Duration::from_millis(20));
}
