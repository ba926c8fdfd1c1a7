//! What happens to a sign-in and to what it left behind on machines where more goes on: a browser that comes twice, a
//! port that another holds, files that a crash or a person has changed.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use grantflow_ureq::grantflow_store::FileStore;

use super::*;

pub(crate) fn a_browser_that_comes_twice_has_its_code_exchanged_once<A: Adapter>() {
    for times in [2, 6] {
        let front = Front::start(Server::demo()).unwrap();
        let (token, statuses) = sign_in(&A::new(), app(&front), move |url| {
            let answer = url::Url::parse(&person::answer(&url).unwrap()).unwrap();
            let at = answer.socket_addrs(|| None).unwrap()[0];
            let request = format!(
                "GET {} HTTP/1.1\r\nHost: {}:{}\r\n\r\n",
                &answer[url::Position::BeforePath..],
                answer.host_str().unwrap(),
                at.port()
            );
            let all: Vec<_> = (0..times)
                .map(|_| {
                    let request = request.clone();
                    std::thread::spawn(move || {
                        // The receiver may have ended by then.
                        let Ok(mut stream) = TcpStream::connect(at) else { return String::new() };
                        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                        let _ = stream.write_all(request.as_bytes());
                        let mut page = Vec::new();
                        let _ = stream.read_to_end(&mut page);
                        String::from_utf8_lossy(&page).into_owned()
                    })
                })
                .collect();
            all.into_iter()
                .map(|page| page.join().unwrap().get(9..12).unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        });
        token.unwrap();
        assert!(statuses.iter().any(|status| status == "200"), "{statuses:?}");
        assert_eq!(front.server().seen_at(Place::Token).len(), 1, "a second use of a code ends the grant");
    }
}

pub(crate) fn a_port_that_another_program_holds_is_an_error_at_once_that_names_it<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let on = |at: (std::net::IpAddr, u16)| TcpListener::bind(at).ok();
    for (held, host) in [
        (on((Ipv4Addr::LOCALHOST.into(), 0)), "127.0.0.1"),
        (on((Ipv4Addr::LOCALHOST.into(), 0)), "localhost"),
        // Browsers try this one first: whoever holds it would get the code.
        (on((Ipv6Addr::LOCALHOST.into(), 0)), "localhost"),
    ] {
        let Some(held) = held else { continue };
        let port = held.local_addr().unwrap().port();
        let start = Instant::now();
        let app = app(&front).host(host).port(port).show(|_| panic!("somebody was asked"));
        let error = A::new().sign_in(&app).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(error.kind(), ErrorKind::Loopback, "{error}");
        assert!(error.to_string().contains(&format!(":{port}")), "{error}");
        assert!(error.to_string().contains("another program holds the port"), "{error}");
        assert_eq!(error.advice(), Some(grantflow::Advice::FixConfiguration));
    }
    assert!(front.server().seen().is_empty());
}

/// A program whose user has signed in, and the file of the grant.
fn signed_in<A: Adapter>(folder: &Path) -> (Front, InstalledApp, PathBuf) {
    let front = Front::start(Server::demo()).unwrap();
    let app = app(&front).show(|url| drop(person::visit_in_background(url)));
    stored::<A>(folder).load_or_sign_in(&app).unwrap();
    let files = fs::read_dir(folder.join("grants")).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = files.filter(|path| path.extension().is_some_and(|kind| kind == "grant")).collect();
    let [kept] = &kept[..] else { panic!("one grant: {kept:?}") };
    (front, app.show(|_| panic!("somebody was asked")), kept.clone())
}

fn stored<A: Adapter>(folder: &Path) -> A {
    A::with_store(Arc::new(FileStore::new(folder.join("grants"))))
}

pub(crate) fn a_file_of_tokens_that_is_damaged_is_an_error_that_names_it_and_says_what_to_do<A: Adapter>() {
    let folder = tempfile::tempdir().unwrap();
    let (_front, app, file) = signed_in::<A>(folder.path());
    let whole = fs::read(&file).unwrap();
    for (what, content) in [
        ("empty", Vec::new()),
        ("zeros", vec![0; 512]),
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("zeros at its end", [&whole[..whole.len() - 40], &[0; 40]].concat()),
        ("another's", b"{\"access_token\":\"canary\"}".to_vec()),
    ] {
        fs::write(&file, content).unwrap();
        let error = stored::<A>(folder.path()).load_or_sign_in(&app).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Store, "{what}: {text}");
        assert!(text.contains(file.to_str().unwrap()), "{what}: {text}");
        assert!(text.contains("delete"), "{what}: {text}");
        hidden_in_error(&error, &["canary"]);
    }
    fs::write(&file, whole).unwrap();
    stored::<A>(folder.path()).load_or_sign_in(&app).unwrap();
}

pub(crate) fn a_file_of_tokens_that_is_a_link_is_refused_and_not_replaced<A: Adapter>() {
    let folder = tempfile::tempdir().unwrap();
    let (_front, app, file) = signed_in::<A>(folder.path());
    let shared = folder.path().join("shared");
    fs::rename(&file, &shared).unwrap();
    let whole = fs::read(&shared).unwrap();
    #[cfg(unix)]
    for target in [shared.clone(), folder.path().join("nowhere")] {
        std::os::unix::fs::symlink(&target, &file).unwrap();
        let error = stored::<A>(folder.path()).load_or_sign_in(&app).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store, "{error}");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
        assert_eq!(fs::read_link(&file).unwrap(), target, "the link was replaced");
        fs::remove_file(&file).unwrap();
    }
    assert_eq!(fs::read(&shared).unwrap(), whole);
}
