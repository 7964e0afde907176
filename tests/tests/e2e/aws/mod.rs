//! `lockstep aws`, and the calls on AWS that its table has.

mod calls;
mod denied;
mod provision;
mod proxied;
