//! One line of comma-separated values (RFC 4180, without line breaks inside a field).

/// The fields of a line; quotes around a field are removed, doubled quotes inside it are one.
pub(super) fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quotes_protect_commas() {
        assert_eq!(fields("a.jpg,3"), ["a.jpg", "3"]);
        assert_eq!(fields(r#""a, ""b"".jpg",3,"#), [r#"a, "b".jpg"#, "3", ""]);
        assert_eq!(fields(""), [""]);
    }
}
