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
 * The way to the sidecar: HTTP/1.1 with JSON over a Unix socket or loopback TCP, on the JDK alone.
 *
 * <p>{@link io.lockstep.bridge.sidecar.Sidecar} is the door: one call a batch, answered with one
 * verdict a command. A call is idempotent by its request id, so an answer that was lost is asked
 * for again; a sidecar that is away fails the call at once. An error is never read as "refused":
 * what is not known is a {@link io.lockstep.bridge.sidecar.SidecarException}.
 */
package io.lockstep.bridge.sidecar;
