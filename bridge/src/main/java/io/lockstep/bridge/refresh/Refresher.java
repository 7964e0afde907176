package io.lockstep.bridge.refresh;

/** Brings the index and the caches of this Gerrit up to date with refs that were moved. */
public interface Refresher {
  /**
   * Refreshes one thing. Doing it twice does no harm.
   *
   * @param own whether commits of this node alone made the task: Gerrit has probably done it already
   * @throws Exception it is to be tried again later
   */
  void refresh(Subject subject, boolean own) throws Exception;
}
