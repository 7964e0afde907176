//! The contract suites over tables, streams and a bucket that exist outside of this process: real AWS, or emulators at
//! other endpoints. `make aws-acceptance` and `make contract-emulators` run the program over it.
//!
//! Everything that a run creates has a name below the prefix that the user gives, and a tag. A run refuses to begin if
//! one of these names is taken, so it never deletes anything else. It deletes everything at its end, also
//! after a failure.
//!
//! | file | idea |
//! |---|---|
//! | `settings` | the variables of the environment, and the refusals |
//! | `estimate` | the price of a run |
//! | `tables` | two tables, emptied before each case |
//! | `streams` | one stream per case, with the operations of its operator |
//! | `patient` | an event log that waits as long as a real stream takes |
//! | `blobs` | a bucket of which every key is remembered |
//! | `cases` | all cases by name, and their run |

pub mod blobs;
pub mod cases;
pub mod estimate;
mod patient;
pub mod settings;
pub mod streams;
pub mod tables;
