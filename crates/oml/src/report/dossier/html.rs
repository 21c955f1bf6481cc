//! A report as a page: self-contained, without scripts, for light and dark, for print and for narrow screens.

use askama::Template;

use super::Dossier;
use super::layout::{Block, Cell, Section, sections};

/// The page; everything in it is escaped except the plots, which escape what they show.
#[derive(Template)]
#[template(path = "dossier.html")]
struct Page<'a> {
    dossier: &'a Dossier,
    sections: Vec<Section>,
}

/// The whole page.
///
/// # Errors
/// When the template fails, which a formatter that refuses text would cause.
pub(super) fn render(dossier: &Dossier) -> anyhow::Result<String> {
    let sections = sections(dossier);
    Ok(Page { dossier, sections }.render()?)
}
