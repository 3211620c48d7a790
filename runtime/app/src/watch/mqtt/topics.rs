//! Names of topics: `PREFIX/NAME/state`, or `PREFIX/NAME/REGION/state` where there are regions.

/// What we publish under.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Topics {
    base: String,
    /// One level for each area; empty without regions.
    areas: Vec<String>,
}

impl Topics {
    pub(super) fn new(prefix: &str, name: &str, regions: &[String]) -> Self {
        let mut areas: Vec<String> = Vec::new();
        for region in regions {
            let mut level = level(region);
            while areas.contains(&level) {
                level.push('_');
            }
            areas.push(level);
        }
        Self { base: format!("{prefix}/{name}"), areas }
    }

    /// A topic of the device.
    pub(super) fn of(&self, what: &str) -> String {
        format!("{}/{what}", self.base)
    }

    /// A topic of an area.
    pub(super) fn of_area(&self, area: usize, what: &str) -> String {
        match self.areas.get(area) {
            Some(level) => format!("{}/{level}/{what}", self.base),
            None => self.of(what),
        }
    }
}

/// A name as one level of a topic: what separates levels or stands for any is replaced.
pub(super) fn level(name: &str) -> String {
    let odd = |c: char| matches!(c, '/' | '+' | '#') || c.is_control();
    name.chars().map(|c| if odd(c) { '_' } else { c }).collect()
}

/// A name as Home Assistant's identifiers are: letters of ASCII, digits, `_` and `-`, at most 64.
pub(super) fn id(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    name.chars().take(64).map(|c| keep(c.to_ascii_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_levels_of_their_own() {
        let plain = Topics::new("kinglet", "porch", &[]);
        assert_eq!(plain.of_area(0, "state"), "kinglet/porch/state");
        let names = ["left".into(), "a/b".into(), "a#b".into()];
        let topics = Topics::new("home/eyes", "porch", &names);
        assert_eq!(topics.of("health"), "home/eyes/porch/health");
        assert_eq!(topics.of_area(1, "state"), "home/eyes/porch/a_b/state");
        assert_eq!(topics.of_area(2, "state"), "home/eyes/porch/a_b_/state");
        assert_eq!(id("Größe, 2-3"), "gr__e__2-3");
    }
}
