package io.lockstep.bridge.sidecar;

import java.io.IOException;

/** The sidecar answered with an error: nothing came of the request. */
public final class SidecarError extends IOException {
  private final int status;
  private final boolean retry;

  SidecarError(int status, String message, boolean retry) {
    super(message);
    this.status = status;
    this.retry = retry;
  }

  /** The HTTP status. */
  public int status() {
    return status;
  }

  /** Whether the very same request may succeed later. */
  public boolean retry() {
    return retry;
  }
}
