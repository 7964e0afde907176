// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

package io.lockstep.bridge.git;

import java.io.IOException;

/**
 * One row of the conformance table: a scenario, and the result of the bridge if it differs from
 * JGit on purpose.
 *
 * @param scenario executed on both repositories; its text is compared
 * @param difference the result of the bridge; null if it is the one of JGit
 * @param why the reason for the difference
 */
record Row(String name, Scenario scenario, String difference, String why) {
  interface Scenario {
    String run(RepositoryUnderTest subject) throws IOException;
  }

  static Row same(String name, Scenario scenario) {
    return new Row(name, scenario, null, null);
  }

  static Row differs(String name, Scenario scenario, String difference, String why) {
    return new Row(name, scenario, difference, why);
  }
}
