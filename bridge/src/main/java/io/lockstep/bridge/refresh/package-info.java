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

/**
 * Index and caches follow refs that the sidecar moved.
 *
 * <pre>
 * RefreshPuller        takes tasks from the sidecar, has them executed, reports
 *   RefreshTarget            what a task speaks of
 *   GerritRefresher    one thread a thing, in a request's context
 *     ProjectRefresh, ChangeRefresh, AccountRefresh, GroupRefresh
 *     ChangedNotes     what differs between two versions of a note tree
 * </pre>
 *
 * <p>A task says what was moved, not what to do; doing it twice does no harm, so nothing is kept
 * here. It runs in the server that serves, never in {@code init} or {@code reindex}: they do not
 * load {@link io.lockstep.bridge.BridgeModule}.
 */
package io.lockstep.bridge.refresh;
