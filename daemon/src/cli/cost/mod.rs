//! The cost of an estate at AWS: units of DynamoDB, Kinesis and S3 in a month, and their price.
//!
//! Two ways lead to the use of a month: the load model with the periodic calls of idle nodes, and the counters of
//! running nodes. Both go through the same bill. Everything here is a pure function. Backups, keys, endpoints, machines
//! and traffic between Regions are in no line. `docs/cost.md` has the formulas in words.
//!
//! | file | idea |
//! |---|---|
//! | `model` | the load model, which the load test shares |
//! | `units` | the units of one act |
//! | `estate` | sites, nodes, kinds of tables and streams |
//! | `traffic` | transactions, slots, records and blobs of a working day |
//! | `idle` | the periodic calls of a node while nobody writes |
//! | `usage` | the use of a month by the model |
//! | `measured` | the use of a month by counters |
//! | `prices` | the file of prices |
//! | `bill` | use times prices, one line per item |

pub mod bill;
pub mod estate;
pub mod idle;
pub mod measured;
pub mod model;
pub mod prices;
pub mod traffic;
pub mod units;
pub mod usage;
