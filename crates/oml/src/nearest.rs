//! Which known name an unknown one was probably meant to be.

/// Names less alike than this (Jaro's similarity, which clap measures flags by) are no suggestion.
const LEAST: f64 = 0.8;

/// ` (did you mean NAME?)`, or nothing where no known name is near.
pub(crate) fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let alike = known
        .into_iter()
        .map(|known| (strsim::jaro(name, known), known))
        .filter(|(alike, _)| *alike > LEAST)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    alike.map_or_else(String::new, |(_, known)| {
        format!(" (did you mean {known}?)")
    })
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn the_nearest_name_is_suggested() {
        let known = ["learning_rate", "final_learning_rate", "epochs", "count"];
        let meant = |name| suggestion(name, known);
        assert_eq!(meant("learnin_rate"), " (did you mean learning_rate?)");
        assert_eq!(meant("epoch"), " (did you mean epochs?)");
        assert_eq!(meant("colour"), "");
    }
}
