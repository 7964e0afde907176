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
 * A Gerrit whose site takes no writes now: the jobs that rest, and the answers to users.
 *
 * <pre>
 * StandbyModule      binds the rest
 *   PeriodicJobs     Gerrit's own periodic writes run at an active site only
 *   RefusalPage      a web request whose update failed ends with a page that says why
 *   RefusalOverSsh   an SSH command that reports an internal error says why, too
 *   SshErrors        the stream that adds the reason
 * </pre>
 *
 * <p>Gerrit offers no extension point for these. So Guice intercepts methods of classes that it
 * creates itself; classes are named as text, because not every release has each of them. The role
 * is asked for when a job is due, so a promotion needs no restart.
 */
package io.lockstep.bridge.standby;
