//! Looks at all resources of a site, and mends them one step after the other.

use super::{Property, Provided, ProvisionError, Row, Verdict};

/// The most rounds over one resource. Shards are doubled once per round; everything else needs one or two.
const ROUNDS: u32 = 16;

/// The result of a look over all resources.
#[derive(Debug, Default)]
pub struct Looked {
    /// The rows of the resources that could be compared.
    pub rows: Vec<Row>,
    /// Why the others could not.
    pub failures: Vec<ProvisionError>,
}

impl Looked {
    /// Whether a property is not as wanted.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.verdict, Verdict::Missing | Verdict::Differs))
    }
}

/// Compares every resource. One that cannot be compared does not hide the others.
pub async fn look(all: &[Box<dyn Provided>]) -> Looked {
    let mut looked = Looked::default();
    for one in all {
        match one.look().await {
            Ok(rows) => looked.rows.extend(rows),
            Err(error) => looked.failures.push(error),
        }
    }
    looked
}

/// Adds missing properties, resource by resource, and tells each step after it was taken. Ends at the first failure. A
/// step that changed nothing is not taken again.
///
/// # Errors
/// A resource could not be compared, or a step failed or has an unknown outcome. The steps that were told are done.
pub async fn mend(all: &[Box<dyn Provided>], told: &mut (dyn FnMut(&Row) + Send)) -> Result<(), ProvisionError> {
    for one in all {
        let mut taken: Vec<(Property, String)> = Vec::new();
        for _ in 0..ROUNDS {
            let due = |row: &Row| {
                row.verdict == Verdict::Missing && !taken.contains(&(row.property.clone(), row.found.clone()))
            };
            let rows: Vec<Row> = one.look().await?.into_iter().filter(due).collect();
            if rows.is_empty() {
                break;
            }
            for row in rows {
                one.mend(&row).await?;
                told(&row);
                taken.push((row.property, row.found));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use parking_lot::Mutex;

    use super::super::Rows;
    use super::*;

    /// A resource whose shards double, and whose deletion protection stays off whatever is asked.
    struct Fake {
        shards: Mutex<u32>,
        denied: bool,
    }

    #[async_trait]
    impl Provided for Fake {
        async fn look(&self) -> Result<Vec<Row>, ProvisionError> {
            let mut rows = Rows::of("stream s", "eu-west-1");
            let shards = *self.shards.lock();
            rows.missing_unless(shards >= 8, Property::Shards, 8, shards);
            rows.missing_unless(false, Property::DeletionProtection, "on", "off");
            rows.differs_unless(false, Property::StreamMode, "a", "b", "change it");
            Ok(rows.done())
        }

        async fn mend(&self, row: &Row) -> Result<(), ProvisionError> {
            if self.denied {
                let why = "no policy allows it".to_owned();
                return Err(ProvisionError::Denied { action: "a:B".to_owned(), resource: row.resource.clone(), why });
            }
            assert_ne!(row.property, Property::StreamMode, "an operator's decision is not taken");
            if row.property == Property::Shards {
                *self.shards.lock() *= 2;
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn steps_are_taken_until_nothing_is_missing_and_a_useless_one_once() {
        let all: Vec<Box<dyn Provided>> = vec![Box::new(Fake { shards: Mutex::new(1), denied: false })];
        let mut steps = Vec::new();
        mend(&all, &mut |row| steps.push(row.property.to_string())).await.unwrap();
        assert_eq!(steps, ["shards", "deletion protection", "shards", "shards"]);
        assert!(look(&all).await.differs(), "what stays is told");
    }

    #[tokio::test]
    async fn a_denied_step_ends_it() {
        let all: Vec<Box<dyn Provided>> = vec![Box::new(Fake { shards: Mutex::new(1), denied: true })];
        let error = mend(&all, &mut |_| panic!("nothing was done")).await.unwrap_err();
        assert!(error.to_string().contains("a:B on stream s is denied"), "{error}");
    }
}
