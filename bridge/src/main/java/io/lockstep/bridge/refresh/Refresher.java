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

package io.lockstep.bridge.refresh;

/** Brings the index and the caches of this Gerrit up to date with refs that have moved. */
public interface Refresher {
  /**
   * Refreshes one entity. A second time does no harm.
   *
   * @param own whether commits of this node alone caused the task; then Gerrit has probably done it
   *     already
   * @throws Exception the refresh must be tried again later
   */
  void refresh(RefreshTarget target, boolean own) throws Exception;
}
