//! The text for operators when AWS denies a call: the action, the resource, AWS's own words, and the command that mends
//! it.

/// The codes with which AWS denies a call that its caller has no right to.
const CODES: [&str; 3] = ["AccessDeniedException", "AccessDenied", "UnauthorizedOperation"];

/// Whether an error code means that the caller has no right to the call.
#[must_use]
pub fn is_denied(code: Option<&str>) -> bool {
    code.is_some_and(|code| CODES.contains(&code))
}

/// The text for a resource that does not exist, and that this node may not create.
#[must_use]
pub fn to_create(action: &str, resource: &str, why: &str) -> String {
    format!(
        "{resource} does not exist, and this node may not create it: {action} on {resource} is denied ({why}). Run \
         `lockstep aws apply` with an identity that may, or attach the policy that `lockstep aws policy --for \
         run-and-create` prints"
    )
}

/// The text for any other call that is denied to a sidecar. AWS's message has the action and the resource as well.
#[must_use]
pub fn to_run(action: &str, resource: &str, why: &str) -> String {
    format!("{action} on {resource} is denied ({why}). Attach the policy that `lockstep aws policy` prints")
}

/// The text for a denied call of a sidecar in use. AWS's message names the action and the resource.
#[must_use]
pub fn in_use(why: &str) -> String {
    format!("{why}; `lockstep aws policy` prints the policy that this node needs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_creation_names_action_resource_and_command() {
        assert!(
            is_denied(Some("AccessDeniedException")) && !is_denied(Some("ValidationException")) && !is_denied(None)
        );
        let text = to_create("dynamodb:CreateTable", "table lockstep-refs", "no identity-based policy allows it");
        for part in ["dynamodb:CreateTable on table lockstep-refs", "lockstep aws apply", "no identity-based policy"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
