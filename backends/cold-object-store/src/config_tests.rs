use super::*;

fn read(text: &str) -> Result<ObjectStoreConfig> {
    ObjectStoreConfig::read(&RawConfig::from_toml("cold", text).unwrap())
}

#[test]
fn values_out_of_range_are_refused_at_their_key() {
    for (key, text) in [
        ("retries", "retries = 21"),
        ("timeout", "timeout = \"1ms\""),
        ("timeout", "timeout = \"2h\""),
        ("requests", "requests = 0"),
        ("url", "url = \"\""),
        ("url", "url = \"no url\""),
    ] {
        let url = if key == "url" {
            ""
        } else {
            "url = \"memory:///\"\n"
        };
        let error = read(&format!("{url}{text}")).unwrap_err();
        assert!(error.is_config());
        let message = error.to_string();
        assert!(
            message.contains(&format!("[cold] {key}: expected")),
            "{message}"
        );
        assert!(message.contains('^'), "{message}");
    }
    let error = read("").unwrap_err().to_string();
    assert!(
        error.contains("url: expected") && error.contains("got nothing"),
        "{error}"
    );
}

#[test]
fn options_are_texts_numbers_and_truth_values_in_either_form_of_a_table() {
    for text in [
        "url = \"s3://b\"\noptions = { region = \"x\", port = 9, allow_http = true }",
        "url = \"s3://b\"\n[options]\nregion = \"x\"\nport = 9\nallow_http = true",
    ] {
        let config = read(text).unwrap();
        let options: Vec<_> = config.options.iter().collect();
        assert_eq!(
            options,
            [("allow_http", "true"), ("port", "9"), ("region", "x")]
        );
    }
}

/// Nobody finds a secret in a log: not by a mistake in the options, not by one in the URL, not by `Debug`.
#[test]
fn secrets_are_in_no_message() {
    for options in [
        "{ key = \"hush\", other = [1] }",
        "{ key = \"hush\", other = { a = 1 } }",
        "\"hush\"",
        "[\"hush\"]",
    ] {
        let error = read(&format!("url = \"s3://b\"\noptions = {options}")).unwrap_err();
        assert!(error.is_config());
        let message = error.to_string();
        assert!(message.contains("options"), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }
    for url in ["s3://id:hush@bucket/x", "az://box/x?sig=hush"] {
        let message = read(&format!("url = {url:?}")).unwrap_err().to_string();
        assert!(message.contains("url: expected"), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }
    let config = read("url = \"s3://b\"\noptions = { key = \"hush\" }").unwrap();
    let debug = format!("{config:?}");
    assert!(debug.contains("key") && !debug.contains("hush"), "{debug}");
}
