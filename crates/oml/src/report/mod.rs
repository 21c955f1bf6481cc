//! Reports: self-contained pages with plots, readable in light and dark and on a phone. Here that of a demo, in [`dossier`] those on evidence.

mod data;
pub(crate) mod dossier;
mod plot;

use askama::Template;

pub(crate) use data::{
    Answer, Better, Fact, Headline, Measured, Moment, Report, Shift, Unit, Utility,
};

/// The page of a demo; everything in it is escaped except the plots, which are made here.
#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    loss: String,
    recall: String,
    shifts: String,
    bars: Vec<(&'a Utility, String)>,
}

impl Report {
    /// The whole page as text.
    ///
    /// # Errors
    /// When the template fails, which a formatter that refuses text would cause.
    pub(crate) fn to_html(&self) -> anyhow::Result<String> {
        let page = Page {
            report: self,
            loss: plot::loss(&self.history, self.chosen_seconds),
            recall: plot::recall(&self.history, self.chosen_seconds),
            shifts: plot::shifts(&self.shifts),
            bars: self
                .utility
                .iter()
                .map(|utility| (utility, plot::bars(utility)))
                .collect(),
        };
        Ok(page.render()?)
    }
}

#[cfg(test)]
mod tests;
