package io.lockstep.bridge.sidecar;

/** What the sidecar answered: the status, and the body as text. */
record HttpAnswer(int status, String body) {}
