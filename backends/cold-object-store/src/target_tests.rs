use aether_core::config::RawConfig;

use super::*;

fn connect_to(text: &str) -> Result<Target> {
    let config = ObjectStoreConfig::read(&RawConfig::from_toml("cold", text).unwrap()).unwrap();
    connect(&config, false)
}

#[test]
fn local_stores_take_no_settings_of_services() {
    let error = connect_to("url = \"memory:///\"\noptions = { region = \"x\" }").unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("region"),
        "{error}"
    );
}

#[test]
fn schemes_that_are_not_known_are_named_with_those_that_are() {
    for url in ["http://host/x", "https://host/x", "ftp://host/x"] {
        let error = connect_to(&format!("url = {url:?}")).unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains("expected s3, gs, az"),
            "{error}"
        );
    }
}

#[test]
fn a_file_in_place_of_the_folder_is_an_error_in_the_configuration() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = Url::from_file_path(file.path()).unwrap();
    let error = connect_to(&format!("url = {:?}", url.as_str())).unwrap_err();
    assert!(error.is_config(), "{error:?}");
}

#[cfg(not(feature = "s3"))]
#[test]
fn a_service_that_is_not_compiled_in_names_its_feature() {
    let error = connect_to("url = \"s3://bucket\"").unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("\"s3\""),
        "{error}"
    );
}

#[cfg(all(feature = "s3", feature = "gcs", feature = "azure"))]
#[test]
fn every_service_builds_from_its_settings_and_refuses_unknown_ones() {
    for (url, options) in [
        (
            "s3://bucket/prefix",
            "region = \"x\", access_key_id = \"a\", secret_access_key = \"b\"",
        ),
        ("gs://bucket/prefix", "google_skip_signature = true"),
        (
            "az://box/prefix",
            "account_name = \"a\", access_key = \"YQ==\"",
        ),
    ] {
        let target = connect_to(&format!("url = {url:?}\noptions = {{ {options} }}")).unwrap();
        assert_eq!(target.names, Names::Below("prefix".into()));
        assert!(target.remote);
        let error = connect_to(&format!(
            "url = {url:?}\noptions = {{ {options}, no_such = \"hush\" }}"
        ));
        let error = error.unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains("no_such"),
            "{error}"
        );
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
