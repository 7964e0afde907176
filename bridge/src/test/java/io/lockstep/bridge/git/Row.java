package io.lockstep.bridge.git;

import java.io.IOException;

/**
 * One row of the conformance table: what is done, and, where the bridge differs from JGit on purpose, what it answers
 * instead.
 *
 * @param scenario done to both repositories; its text is compared
 * @param difference what the bridge answers; null where it is as JGit
 * @param why why it differs
 */
record Row(String name, Scenario scenario, String difference, String why) {
  interface Scenario {
    String run(Subject subject) throws IOException;
  }

  static Row same(String name, Scenario scenario) {
    return new Row(name, scenario, null, null);
  }

  static Row differs(String name, Scenario scenario, String difference, String why) {
    return new Row(name, scenario, difference, why);
  }
}
