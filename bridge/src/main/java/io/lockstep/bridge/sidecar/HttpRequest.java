package io.lockstep.bridge.sidecar;

import java.util.Optional;

/** What is sent to the sidecar. */
record HttpRequest(String method, String target, Optional<String> authorization, String body) {}
