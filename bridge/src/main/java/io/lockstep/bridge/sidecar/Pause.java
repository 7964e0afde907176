package io.lockstep.bridge.sidecar;

/** A moment of waiting between two looks. */
public final class Pause {
  private Pause() {}

  /** Waits; an interrupt ends it and stays set. */
  public static void of(long millis) {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
