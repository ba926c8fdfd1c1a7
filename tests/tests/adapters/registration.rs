//! A client that registers itself (RFC 7591), kept in a store that programs share.

use std::path::Path;

use grantflow::register::{ClientMetadata, Registration};
use grantflow::store::RegistrationInStore;
use grantflow_ureq::grantflow_store::FileStore;

use super::*;

pub(super) fn a_client_registers_itself_once_and_signs_people_in_at_each_start<A: Adapter>() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("registration").join(A::NAME);
    let _ = std::fs::remove_dir_all(&folder);
    let front = Front::start(Server::demo().with(|settings| {
        settings.registration = true;
        settings.rotate_registration_tokens = true;
        settings.initial_access_token = Some("initial".into());
    }))
    .unwrap();
    let metadata = ClientMetadata::new().application_type("native").redirect_uris(["http://127.0.0.1/"]);
    let mut clients = Vec::new();
    for name in ["Calendar", "Calendar", "Calendar 2"] {
        // A program that has just been started.
        let program = A::with_store(Arc::new(FileStore::new(&folder)));
        let registration = Registration::new(&front.metadata(), metadata.clone().client_name(name)).unwrap();
        let registration = RegistrationInStore::new(registration.initial_access_token("initial"));
        let registered = program.run(registration).unwrap();
        let server = registered.server(&front.metadata()).unwrap();
        let app = InstalledApp::new(&server, &registered.client().unwrap()).scopes("read").open_browser(false);
        let app = app.show(|url| drop(person::visit_in_background(url)));
        program.sign_in(&app).unwrap();
        clients.push(registered.client_id().to_owned());
    }
    assert!(clients.windows(2).all(|two| two[0] == two[1]), "{clients:?}");
    let program = A::with_store(Arc::new(FileStore::new(&folder)));
    let issuer = front.metadata().issuer().clone();
    assert!(program.run(RegistrationInStore::read(&issuer)).unwrap().save_error().is_none());
    program.run(RegistrationInStore::delete(&issuer)).unwrap();
    assert_eq!(program.run(RegistrationInStore::read(&issuer)).unwrap_err().kind(), ErrorKind::Store);
    let server = front.server();
    assert_eq!((server.seen_at(Place::Registration).len(), server.seen_at(Place::Managed).len()), (1, 3));
}
