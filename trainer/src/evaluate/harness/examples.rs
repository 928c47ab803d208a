//! Examples: solved questions in front of the one that is asked.

use serde_json::Value;

use super::forms::Question;
use super::random::PythonRandom;
use super::records::Record;
use super::task::Task;

/// The harness' default seed for its choice of examples.
pub const EXAMPLE_SEED: u64 = 1234;

/// How examples are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExampleOrder {
    /// The first of the file.
    First,
    /// Drawn anew for each question by Python's generator from this seed.
    Drawn {
        /// The seed.
        seed: u64,
    },
}

/// The examples that a task is asked with.
#[derive(Clone, Debug, Default)]
pub struct Examples {
    /// Examples in front of each question.
    pub count: usize,
    /// What they are taken from. Empty: from the questions themselves, if the harness does so.
    pub records: Vec<Record>,
    /// How they are chosen; `None` is the harness' way for the task.
    pub order: Option<ExampleOrder>,
}

/// A question and the record it is from.
pub(super) struct Solved {
    pub record: Value,
    pub question: Question,
}

/// Chooses examples for one question after the other.
pub(super) struct Chooser<'a> {
    pool: &'a [Solved],
    count: usize,
    /// `None` takes the first.
    random: Option<PythonRandom>,
    leaves_itself_out: bool,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(task: Task, pool: &'a [Solved], count: usize, order: ExampleOrder) -> Self {
        Self {
            pool,
            count,
            random: match order {
                ExampleOrder::First => None,
                ExampleOrder::Drawn { seed } => Some(PythonRandom::new(seed)),
            },
            leaves_itself_out: task.leaves_itself_out(),
        }
    }

    /// The examples for the question of `record`; why not, if the pool is too small.
    pub(super) fn choose(&mut self, record: &Value) -> Result<Vec<&'a Solved>, String> {
        if self.count == 0 {
            return Ok(Vec::new());
        }
        let (pool, count) = (self.pool, self.count);
        let others = || pool.iter().filter(|example| example.record != *record);
        let Some(random) = &mut self.random else {
            let first: Vec<_> = if self.leaves_itself_out {
                others().take(count).collect()
            } else {
                pool.iter().take(count).collect()
            };
            return enough(first, count);
        };
        if !self.leaves_itself_out {
            return drawn(random, &pool.iter().collect::<Vec<_>>(), count);
        }
        // One more than needed, in case the question itself is among them.
        let mut found = drawn(random, &pool.iter().collect::<Vec<_>>(), count + 1)?;
        found.retain(|example| example.record != *record);
        found.truncate(count);
        if found.len() < count {
            // The pool holds the question more than once.
            found = drawn(random, &others().collect::<Vec<_>>(), count)?;
        }
        Ok(found)
    }
}

fn drawn<'a>(
    random: &mut PythonRandom,
    pool: &[&'a Solved],
    count: usize,
) -> Result<Vec<&'a Solved>, String> {
    let (population, wanted) = (u32::try_from(pool.len()), u32::try_from(count));
    let places = match (population, wanted) {
        (Ok(population), Ok(wanted)) => random.sample(population, wanted),
        _ => None,
    };
    let places = places.ok_or_else(|| too_few(pool.len(), count))?;
    Ok(places.into_iter().map(|place| pool[place]).collect())
}

fn enough(found: Vec<&Solved>, count: usize) -> Result<Vec<&Solved>, String> {
    if found.len() < count {
        return Err(too_few(found.len(), count));
    }
    Ok(found)
}

fn too_few(found: usize, wanted: usize) -> String {
    format!("there are {found} examples, but {wanted} are needed")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pool(records: &[i32]) -> Vec<Solved> {
        let solved = |record: &i32| Solved {
            record: json!(record),
            question: Question::LastWord {
                prompt: String::new(),
                word: record.to_string(),
            },
        };
        records.iter().map(solved).collect()
    }

    fn chosen(task: Task, pool: &[Solved], asked: &[i32], order: ExampleOrder) -> Vec<Vec<i64>> {
        let mut chooser = Chooser::new(task, pool, 3, order);
        let mut choose = |record: &i32| {
            let found = chooser.choose(&json!(record)).unwrap();
            let records = found.iter().map(|solved| solved.record.as_i64().unwrap());
            records.collect()
        };
        asked.iter().map(&mut choose).collect()
    }

    #[test]
    fn examples_are_those_of_the_harness() {
        let drawn = ExampleOrder::Drawn { seed: EXAMPLE_SEED };
        let ten = pool(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        // `Random(1234).sample(range(10), 3)`, twice.
        assert_eq!(
            chosen(Task::ArcEasy, &ten, &[7, 7], drawn),
            [[7, 1, 0], [1, 0, 9]]
        );
        // Four are drawn, and the question itself is taken out of them.
        assert_eq!(
            chosen(Task::HellaSwag, &ten, &[11, 1], drawn),
            [[7, 1, 0], [9, 0, 8]]
        );
        assert_eq!(
            chosen(Task::ArcEasy, &ten, &[0], ExampleOrder::First),
            [[0, 1, 2]]
        );
        assert_eq!(
            chosen(Task::Piqa, &ten, &[0], ExampleOrder::First),
            [[1, 2, 3]]
        );
        let mut greedy = Chooser::new(Task::HellaSwag, &ten, 10, drawn);
        let Err(why) = greedy.choose(&json!(0)) else {
            panic!("eleven were drawn from ten");
        };
        assert_eq!(why, "there are 10 examples, but 11 are needed");
    }

    #[test]
    fn a_question_that_the_pool_holds_often_is_never_its_own_example() {
        let drawn = ExampleOrder::Drawn { seed: EXAMPLE_SEED };
        let often = pool(&[1, 1, 1, 1, 2, 3, 4]);
        for examples in chosen(Task::HellaSwag, &often, &[1; 20], drawn) {
            assert_eq!(examples.len(), 3);
            assert!(!examples.contains(&1), "{examples:?}");
        }
    }
}
