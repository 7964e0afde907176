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
 * The Gerrit module of Lockstep: every ref update of this server becomes one call to the sidecar a
 * batch.
 *
 * <p>{@link io.lockstep.bridge.BridgeDbModule} takes over Gerrit's repository manager; {@link
 * io.lockstep.bridge.git} is what it puts in its place, {@link io.lockstep.bridge.sidecar} the way
 * to the sidecar. JGit's own checks and result codes are kept; only the step that would write a ref
 * is another one. {@code JGitCompatibility} is the one place that knows Gerrit releases apart.
 */
package io.lockstep.bridge;
