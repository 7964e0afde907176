package io.lockstep.bridge.sidecar;

import org.eclipse.jgit.lib.ObjectId;

/**
 * One ref's command: it must be {@code old} and shall be {@code next}; {@link ObjectId#zeroId()} stands for "not there".
 *
 * <p>There is no "fast-forward only": whoever makes a command has looked at the objects, and {@code old} holds it to what
 * was looked at.
 */
public record RefCommand(String ref, ObjectId old, ObjectId next) {
  /** Whether it makes a ref that is not there. */
  public boolean isCreation() {
    return old.equals(ObjectId.zeroId());
  }

  /** Whether it deletes. */
  public boolean isDeletion() {
    return next.equals(ObjectId.zeroId());
  }
}
