use super::*;

#[test]
fn cache_sizes_are_shares_or_numbers() {
    let parse = |text: &str| text.parse::<CacheSize>();
    assert_eq!(parse("10%"), Ok(CacheSize::Share(0.1)));
    assert_eq!(parse("0.25"), Ok(CacheSize::Share(0.25)));
    assert_eq!(parse("5000"), Ok(CacheSize::Units(5000)));
    assert_eq!(parse("1MiB"), Ok(CacheSize::Units(1 << 20)));
    for wrong in ["0", "0%", "-1%", "101%", "1.5", "many", "", "%", "nan%"] {
        assert!(parse(wrong).unwrap_err().contains("cache size"), "{wrong}");
    }
    assert_eq!(CacheSize::Share(0.001).of(186_880).unwrap(), (187, 0.001));
    assert_eq!(
        CacheSize::Share(0.001).of(2_029_769_728).unwrap().0,
        2_029_770
    );
    assert!(CacheSize::Share(0.001).of(400).is_err());
}

#[test]
fn policies_take_settings_behind_a_colon() {
    let texts = |list: &str| -> Result<Vec<String>> {
        Ok(Choice::list(list)?
            .iter()
            .map(|c| c.text().to_owned())
            .collect())
    };
    assert_eq!(texts("lru, belady").unwrap(), ["lru", "belady"]);
    assert_eq!(
        texts("age:idle=1h,batch=5,lru").unwrap(),
        ["age:idle=1h,batch=5", "lru"]
    );
    for wrong in ["half_life=1h", "lru:", "lru:x"] {
        assert!(texts(wrong).is_err(), "{wrong}");
    }
    let twice = texts("age,age:idle=1h,lru,age").unwrap_err().to_string();
    assert!(
        twice.contains("\"age\" stands in the list twice"),
        "{twice}"
    );
    assert!(texts("age,age:idle=1h,age:idle=2h").is_ok());
}
