package io.lockstep.bridge;

import com.google.inject.Singleton;
import java.util.UUID;

/** This life of the Gerrit process, as the sidecar tells it from the one before. */
@Singleton
public final class BridgeProcess {
  private final String id = UUID.randomUUID().toString();

  /** Random, the same until the process ends. */
  public String id() {
    return id;
  }
}
