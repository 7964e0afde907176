package io.lockstep.bridge.late;

import io.lockstep.bridge.sidecar.RefCommand;
import java.util.List;

/** What Gerrit does after an update, done later. */
interface Firing {
  /**
   * Brings the index up to date with what was committed. Doing it twice does no harm.
   *
   * @throws Exception it is to be tried again later
   */
  void index(String project, List<RefCommand> committed) throws Exception;

  /**
   * Fires the events of one transaction.
   *
   * @param actor who asked for it: name and address
   */
  void fire(String project, List<RefCommand> committed, String actor) throws Exception;
}
