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

package io.lockstep.bridge.indoubt;

import io.lockstep.bridge.sidecar.RefCommand;
import java.util.List;

/** The acts of Gerrit after a ref update, for an update whose outcome became known only later. */
interface PostUpdateActions {
  /**
   * Brings the index up to date with the committed values. A second time does no harm.
   *
   * @throws Exception it must be tried again later
   */
  void index(String project, List<RefCommand> committed) throws Exception;

  /**
   * Fires the events of one transaction.
   *
   * @param actor the user who asked for it: name and address
   */
  void fire(String project, List<RefCommand> committed, String actor) throws Exception;
}
