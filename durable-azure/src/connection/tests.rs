use super::*;

const KEY: &str = "c2VjcmV0LWtleS1vZi10aGUtYWNjb3VudA==";
const SAS: &str =
    "sv=2022-11-02&ss=bqt&srt=sco&sp=rwdlacup&se=2099-01-01T00:00:00Z&sig=c2VjcmV0JTJC%3D";

/// What must be seen nowhere.
const SECRETS: [&str; 3] = ["c2VjcmV0", "secret", "sig="];

fn endpoints(connection: &Connection) -> [&str; 3] {
    let Endpoints { blob, queue, table } = connection.endpoints();
    [blob, queue, table]
}

fn emulated(host: &str) -> [String; 3] {
    [10000, 10001, 10002].map(|port| format!("http://{host}:{port}/devstoreaccount1"))
}

fn public_of(protocol: &str, suffix: &str) -> [String; 3] {
    ["blob", "queue", "table"].map(|service| format!("{protocol}://acct1.{service}.{suffix}"))
}

#[test]
fn connection_strings_are_read_as_others_read_them() {
    let https = public_of("https", "core.windows.net");
    let own = ["http://127.0.0.1:1/acct1", "http://127.0.0.1:2/acct1", "http://127.0.0.1:3/acct1"];
    let at = |slash: &str| {
        let [blob, queue, table] = own;
        format!(
            "BlobEndpoint={blob}{slash};QueueEndpoint={queue}{slash};TableEndpoint={table}{slash};"
        )
    };
    let cases: Vec<(String, &str, [String; 3])> = vec![
        ("UseDevelopmentStorage=true".into(), "devstoreaccount1", emulated("127.0.0.1")),
        (" usedevelopmentstorage = TRUE ; ".into(), "devstoreaccount1", emulated("127.0.0.1")),
        (
            "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://emu/".into(),
            "devstoreaccount1",
            emulated("emu"),
        ),
        (format!("AccountName=acct1;AccountKey={KEY}"), "acct1", https.clone()),
        (
            format!("UseDevelopmentStorage=false;accountname=acct1;ACCOUNTKEY={KEY};;"),
            "acct1",
            https.clone(),
        ),
        (
            format!(
                "DefaultEndpointsProtocol=http;AccountName=acct1;AccountKey={KEY};\
                 EndpointSuffix=core.chinacloudapi.cn;FileEndpoint=https://f;Whatever=x"
            ),
            "acct1",
            public_of("http", "core.chinacloudapi.cn"),
        ),
        (format!("{}AccountName=acct1;AccountKey={KEY}", at("")), "acct1", own.map(str::to_owned)),
        (format!("{}AccountName=acct1;AccountKey={KEY}", at("/")), "acct1", own.map(str::to_owned)),
        (
            format!("BlobEndpoint={};AccountName=acct1;AccountKey={KEY}", own[0]),
            "acct1",
            [own[0].to_owned(), https[1].clone(), https[2].clone()],
        ),
        (format!("{}SharedAccessSignature={SAS}", at("")), "acct1", own.map(str::to_owned)),
        (format!("AccountName=acct1;SharedAccessSignature=?{SAS}"), "acct1", https.clone()),
        (
            format!(
                "BlobEndpoint={};QueueEndpoint={};TableEndpoint={};SharedAccessSignature={SAS}",
                https[0], https[1], https[2]
            ),
            "acct1",
            https.clone(),
        ),
    ];
    for (text, account, expected) in cases {
        let connection = Connection::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(connection.account(), account, "{text}");
        assert_eq!(endpoints(&connection), expected.each_ref().map(String::as_str), "{text}");
        connection.credentials().unwrap();
    }
}

#[test]
fn errors_name_the_key_and_never_the_value() {
    let account = format!("AccountName=acct1;AccountKey={KEY}");
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "AccountKey"),
        ("AccountName=acct1".into(), "AccountKey"),
        (format!("AccountKey={KEY}"), "TableEndpoint|BlobEndpoint"),
        ("AccountName=acct1;AccountKey=".into(), "AccountKey"),
        ("AccountName=acct1;AccountKey=secret!".into(), "AccountKey"),
        ("AccountName=acct1;AccountKey=c2VjcmV0=".into(), "AccountKey"),
        (format!("{account};AccountKey={KEY}"), "AccountKey of the connection is given twice"),
        (format!("{account};SharedAccessSignature={SAS}"), "SharedAccessSignature"),
        ("AccountName=acct1;SharedAccessSignature=secret".into(), "SharedAccessSignature"),
        (format!("SharedAccessSignature={SAS}"), "BlobEndpoint"),
        (format!("{account};TableEndpoint=secret"), "TableEndpoint"),
        (format!("{account};TableEndpoint=https://acct1.table/?{SAS}"), "TableEndpoint"),
        (format!("{account};BlobEndpoint=https://user:secret@host/"), "BlobEndpoint"),
        (format!("{account};QueueEndpoint=ftp://secret"), "QueueEndpoint"),
        (format!("{account};DefaultEndpointsProtocol=secret"), "DefaultEndpointsProtocol"),
        ("UseDevelopmentStorage=secret".into(), "UseDevelopmentStorage"),
        (
            "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=secret".into(),
            "DevelopmentStorageProxyUri",
        ),
        ("secret-without-a-key".into(), "key=value"),
        (KEY.trim_end_matches('=').into(), "key=value"),
    ];
    for (text, named) in cases {
        let error = Connection::parse(&text).expect_err(&text);
        let said = format!("{error} {error:?}");
        assert!(named.split('|').any(|name| said.contains(name)), "{text}: {said}");
        for secret in SECRETS {
            assert!(!said.contains(secret), "{text}: {said}");
        }
    }
}

#[test]
fn nothing_shows_a_secret() {
    let at = || public("acct1");
    let connections = [
        Connection::emulator(),
        Connection::account_key("acct1", KEY).unwrap(),
        Connection::sas(at(), SAS).unwrap(),
        Connection::sas(at(), &format!("?{SAS}")).unwrap(),
        Connection::with_credential("acct1", Arc::new(Token)).unwrap(),
    ];
    for connection in connections {
        let shown = format!("{connection:?} {connection:#?} {:?}", connection.credentials());
        for secret in SECRETS.into_iter().chain([EMULATOR_ACCOUNT_KEY]) {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[test]
fn accounts_and_endpoints_are_checked_wherever_they_come_from() {
    for account in ["", "ab", "Account", "a.b", "acct1/", "acct1@host", &"a".repeat(25)] {
        assert!(Connection::account_key(account, KEY).is_err(), "{account}");
        assert!(Connection::with_credential(account, Arc::new(Token)).is_err(), "{account}");
    }
    let wrong = Endpoints { queue: "queue".into(), ..public("acct1") };
    assert!(Connection::sas(wrong.clone(), SAS).is_err());
    assert!(Connection::emulator().with_endpoints(wrong).is_err());
    let slashes = Endpoints { blob: "https://a.b/".into(), ..public("acct1") };
    let connection = Connection::emulator().with_endpoints(slashes).unwrap();
    assert_eq!(connection.endpoints().blob, "https://a.b");
}

#[test]
fn tokens_are_not_sent_in_clear() {
    let connection = || Connection::with_credential("acct1", Arc::new(Token)).unwrap();
    let at = |base: &str| Endpoints {
        blob: base.to_owned(),
        queue: base.to_owned(),
        table: base.to_owned(),
    };
    assert!(connection().with_endpoints(at("http://host/acct1")).is_err());
    assert!(connection().with_endpoints(at("https://host/acct1")).is_ok());
    assert!(connection().with_endpoints(at("http://localhost:1/acct1")).is_ok());
    assert!(connection().with_endpoints(at("http://[::1]:1/acct1")).is_ok());
}

#[test]
fn only_this_machine_is_local() {
    for (base, local) in [
        ("http://127.0.0.1:1/a", true),
        ("http://127.8.0.1:1/a", true),
        ("http://localhost/a", true),
        ("http://[::1]/a", true),
        ("https://a.table.core.windows.net", false),
        ("http://127.0.0.1.example.com/a", false),
        ("http://10.0.0.1/a", false),
    ] {
        assert_eq!(is_loopback(base), local, "{base}");
    }
}

/// Never asked.
#[derive(Debug)]
struct Token;

#[async_trait::async_trait]
impl TokenCredential for Token {
    async fn get_token(&self, _: &[&str]) -> azure_core::Result<azure_core::auth::AccessToken> {
        unreachable!("nothing is sent")
    }

    async fn clear_cache(&self) -> azure_core::Result<()> {
        Ok(())
    }
}
