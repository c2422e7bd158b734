//! Against a server that answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use serde_json::json;

use super::*;

/// What the server got in one request.
struct Request {
    /// In lower case.
    head: String,
    body: String,
}

/// A server that gives one answer for each connection; to an empty one it waits for the client to go.
fn server(answers: &[&str]) -> (String, JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let thread = std::thread::spawn(move || {
        let answer = |answer: String| {
            let mut stream = listener.accept().unwrap().0;
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.to_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
                head += &line;
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = answer.replace('|', "\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            if answer.is_empty() {
                let _ = reader.read_to_end(&mut Vec::new());
            }
            let body = String::from_utf8(body).unwrap();
            Request { head, body }
        };
        answers.into_iter().map(answer).collect()
    });
    (place, thread)
}

const OK: &str = "HTTP/1.1 200 OK|content-length: 0||";
const BROKEN: &str = "HTTP/1.1 500 Broken|content-length: 0||";

fn summary() -> Json {
    json!({"rows": 12, "tables": [{"table": "größe \"x\"", "error": null}]})
}

/// Sends without a proxy, whatever the environment says.
fn post_to(url: &str) -> Result<()> {
    post(url, &summary(), Duration::from_secs(5), None)
}

fn refusal(url: &str) -> String {
    post_to(url).unwrap_err().to_string()
}

#[test]
fn the_summary_arrives_as_it_is() {
    let (place, requests) = server(&[OK]);
    post_to(&format!("http://{place}/hook?token=1")).unwrap();
    let requests = requests.join().unwrap();
    assert_eq!(requests[0].body, summary().to_string());
    let head = &requests[0].head;
    assert!(head.starts_with("post /hook?token=1 http/1.1"), "{head}");
    assert!(head.contains("content-type: application/json\r"), "{head}");
    assert!(
        head.contains(&format!("user-agent: {USER_AGENT}\r")),
        "{head}"
    );
}

#[test]
fn what_may_have_passed_is_tried_twice() {
    let (place, requests) = server(&[BROKEN, OK]);
    post_to(&format!("http://{place}/")).unwrap();
    assert_eq!(requests.join().unwrap()[1].body, summary().to_string());
    let (place, requests) = server(&[BROKEN, BROKEN]);
    let error = refusal(&format!("http://{place}/"));
    assert!(error.contains("it answered 500"), "{error}");
    assert_eq!(requests.join().unwrap().len(), 2);
}

#[test]
fn what_stays_wrong_is_tried_once() {
    // A second request would find nobody, and fail with another error.
    let (place, requests) = server(&["HTTP/1.1 404 Gone|content-length: 0||"]);
    let error = refusal(&format!("http://{place}/"));
    assert!(error.contains("it answered 404"), "{error}");
    requests.join().unwrap();
}

#[test]
fn an_error_shows_the_host_but_no_secret() {
    let place = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = refusal(&format!(
        "http://secret:secret@{place}/secret?secret#secret"
    ));
    assert!(
        error.starts_with("http://127.0.0.1 (ARCHIVE_NOTIFY_URL) "),
        "{error}"
    );
    assert!(
        error.contains("refused") && !error.contains("secret"),
        "{error}"
    );
}

#[test]
fn a_server_that_does_not_answer_is_left() {
    let (place, requests) = server(&[""]);
    let start = Instant::now();
    let url = format!("http://{place}/");
    let error = post(&url, &summary(), Duration::from_millis(300), None).unwrap_err();
    assert!(error.to_string().contains("it took too long"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3));
    requests.join().unwrap();
}

#[test]
fn only_addresses_of_the_web_are_taken() {
    let bad = [
        "",
        " ",
        "x",
        "/x",
        "ftp://secret/",
        "file:///secret",
        "http://",
        "https:///x",
    ];
    for url in bad {
        let error = refusal(url);
        assert!(
            error.contains("ARCHIVE_NOTIFY_URL must be"),
            "{url}: {error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn redirects_take_the_message_along() {
    let (target, received) = server(&[OK]);
    let there = format!("HTTP/1.1 302 Found|location: http://{target}/there|content-length: 0||");
    let here = "HTTP/1.1 308 Moved|location: /here|content-length: 0||";
    let (place, _) = server(&[here, &there]);
    post_to(&format!("http://{place}/")).unwrap();
    let received = received.join().unwrap();
    assert!(received[0].head.starts_with("post /there "));
    assert_eq!(received[0].body, summary().to_string());
}

#[test]
fn redirects_end() {
    let round = "HTTP/1.1 307 Round|location: /|content-length: 0||";
    let (place, requests) = server(&[round; 4]);
    let error = refusal(&format!("http://{place}/"));
    assert!(error.contains("more than 3 redirects"), "{error}");
    assert_eq!(requests.join().unwrap().len(), 4);
}

#[test]
fn redirects_stay_on_the_web_and_as_secure() {
    let follow = |from: &str, to: &str| {
        let next = Address::parse(from).unwrap().redirected(to);
        next.map(|next| next.uri.to_string())
    };
    let found = |url: &str| Some(url.to_owned());
    assert_eq!(follow("http://a:1/x", "https://b/y"), found("https://b/y"));
    assert_eq!(follow("https://a:1/x", "/y?z"), found("https://a:1/y?z"));
    assert_eq!(follow("https://a/x", "//b/y"), found("https://b/y"));
    for to in ["http://b/y", "ftp://b/y", "file:///etc/passwd", "y", ""] {
        assert_eq!(follow("https://a/x", to), None, "{to}");
    }
}
