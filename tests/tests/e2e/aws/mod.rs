//! `lockstep aws`, the calls on AWS that its table has, and the proxy on the way there.

mod calls;
mod denied;
mod provision;
mod proxied;
