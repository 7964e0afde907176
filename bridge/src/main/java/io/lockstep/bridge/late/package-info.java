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
 * Events of updates that Gerrit was told "not known" of, and that were committed.
 *
 * <pre>
 * LateEvents        finds out what became of each update in doubt, without a new try of it
 *   ChangeFates     of a change: its notes tell; of any other ref the sidecar is asked
 *   Firing          what follows when it was committed
 *     GerritFiring  the index, then the events of refs
 *     ChangeEvents  then those of changes: {@code ChangeStep} tells which
 * </pre>
 *
 * <p>Gerrit fires nothing for what ended with an exception. What is fired here is heard by the
 * listeners of this server as any other event, and so goes to the other sites.
 */
package io.lockstep.bridge.late;
