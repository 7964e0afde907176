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
 * Keeps the index and the caches of Gerrit up to date with refs that the sidecar moved.
 *
 * <pre>
 * RefreshPuller        takes tasks from the sidecar, has them executed, reports
 *   RefreshTarget      what a task is about
 *   GerritRefresher    one thread per entity, in a request context
 *     ProjectRefresh, ChangeRefresh, AccountRefresh, GroupRefresh
 *     Versions         the versions of a ref from one value to another
 *     ChangedNotes     differences that they make in a note tree
 *     LateIndexWrites  documents that Gerrit writes after a newer one
 * </pre>
 *
 * <p>A task says which refs moved, not what to do. It may be executed twice, so nothing is stored
 * here. Tasks run in the server that serves, never in {@code init} or {@code reindex}, which do not
 * load {@link io.lockstep.bridge.BridgeModule}.
 */
package io.lockstep.bridge.refresh;
