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
 * The Gerrit module of Lockstep: every batch of ref updates in this server becomes one call to the
 * sidecar.
 *
 * <p>{@link io.lockstep.bridge.BridgeDbModule} replaces Gerrit's repository manager by the one in
 * {@link io.lockstep.bridge.git}, which uses the client in {@link io.lockstep.bridge.sidecar}. The
 * checks and result codes are those of JGit; only the step that writes a ref differs. {@link
 * io.lockstep.bridge.BridgeModule} adds what runs beside the requests: {@link
 * io.lockstep.bridge.refresh}, {@link io.lockstep.bridge.events} and {@link
 * io.lockstep.bridge.indoubt}, in the work queues of {@link io.lockstep.bridge.work}. {@link
 * io.lockstep.bridge.standby} is about a site that takes no writes. {@code JGitCompatibility}
 * contains the differences between Gerrit releases.
 */
package io.lockstep.bridge;
