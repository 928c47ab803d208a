//! MMLU (Hendrycks et al., 2021): 57 subjects in four groups.

use std::fmt;

/// A group of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmluGroup {
    /// All subjects.
    All,
    /// Science, technology, engineering and mathematics.
    Stem,
    /// Business, health and the like.
    Other,
    /// Social sciences.
    SocialSciences,
    /// Humanities.
    Humanities,
}

use MmluGroup::{Humanities, Other, SocialSciences, Stem};

/// All groups, the widest first.
pub(super) const MMLU_GROUPS: [MmluGroup; 5] =
    [MmluGroup::All, Stem, Other, SocialSciences, Humanities];

impl fmt::Display for MmluGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "mmlu",
            Stem => "mmlu_stem",
            Other => "mmlu_other",
            SocialSciences => "mmlu_social_sciences",
            Humanities => "mmlu_humanities",
        })
    }
}

/// A subject of MMLU, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmluSubject(usize);

impl MmluSubject {
    /// The subject of that name, such as `college_physics`.
    pub(super) fn of(name: &str) -> Option<Self> {
        SUBJECTS
            .iter()
            .position(|(known, _)| *known == name)
            .map(Self)
    }

    /// Its name, with underscores.
    pub(super) fn name(self) -> &'static str {
        SUBJECTS[self.0].0
    }

    /// Whether it belongs to a group.
    pub fn is_in(self, group: MmluGroup) -> bool {
        group == MmluGroup::All || SUBJECTS[self.0].1 == group
    }
}

/// Every subject with its group.
const SUBJECTS: [(&str, MmluGroup); 57] = [
    ("abstract_algebra", Stem),
    ("anatomy", Stem),
    ("astronomy", Stem),
    ("business_ethics", Other),
    ("clinical_knowledge", Other),
    ("college_biology", Stem),
    ("college_chemistry", Stem),
    ("college_computer_science", Stem),
    ("college_mathematics", Stem),
    ("college_medicine", Other),
    ("college_physics", Stem),
    ("computer_security", Stem),
    ("conceptual_physics", Stem),
    ("econometrics", SocialSciences),
    ("electrical_engineering", Stem),
    ("elementary_mathematics", Stem),
    ("formal_logic", Humanities),
    ("global_facts", Other),
    ("high_school_biology", Stem),
    ("high_school_chemistry", Stem),
    ("high_school_computer_science", Stem),
    ("high_school_european_history", Humanities),
    ("high_school_geography", SocialSciences),
    ("high_school_government_and_politics", SocialSciences),
    ("high_school_macroeconomics", SocialSciences),
    ("high_school_mathematics", Stem),
    ("high_school_microeconomics", SocialSciences),
    ("high_school_physics", Stem),
    ("high_school_psychology", SocialSciences),
    ("high_school_statistics", Stem),
    ("high_school_us_history", Humanities),
    ("high_school_world_history", Humanities),
    ("human_aging", Other),
    ("human_sexuality", SocialSciences),
    ("international_law", Humanities),
    ("jurisprudence", Humanities),
    ("logical_fallacies", Humanities),
    ("machine_learning", Stem),
    ("management", Other),
    ("marketing", Other),
    ("medical_genetics", Other),
    ("miscellaneous", Other),
    ("moral_disputes", Humanities),
    ("moral_scenarios", Humanities),
    ("nutrition", Other),
    ("philosophy", Humanities),
    ("prehistory", Humanities),
    ("professional_accounting", Other),
    ("professional_law", Humanities),
    ("professional_medicine", Other),
    ("professional_psychology", SocialSciences),
    ("public_relations", SocialSciences),
    ("security_studies", SocialSciences),
    ("sociology", SocialSciences),
    ("us_foreign_policy", SocialSciences),
    ("virology", Other),
    ("world_religions", Humanities),
];
