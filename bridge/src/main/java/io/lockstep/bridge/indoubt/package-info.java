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
 * Late events: those of updates that Gerrit reported as "not known", and that were committed.
 *
 * <pre>
 * InDoubtResolver               finds the outcome of each update in doubt, without a new try
 *   ChangeOutcomes              the outcome of an update of a change, from its notes
 *   PostUpdateActions           what follows a committed update
 *     GerritPostUpdateActions   indexes, and fires the events of refs
 *     ChangeEvents              fires the events of changes; {@code ChangeDelta} tells which
 * </pre>
 *
 * <p>Gerrit fires no events for an update that ended with an exception. The listeners of this
 * server receive what is fired here like any other event, so it also goes to the other sites.
 */
package io.lockstep.bridge.indoubt;
