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

package io.lockstep.bridge.sidecar;

import org.eclipse.jgit.lib.ObjectId;

/**
 * One ref's command: it must be {@code old} and shall be {@code next}; {@link ObjectId#zeroId()}
 * stands for "not there".
 *
 * <p>There is no "fast-forward only": whoever makes a command has looked at the objects, and {@code
 * old} holds it to what was looked at.
 */
public record RefCommand(String ref, ObjectId old, ObjectId next) {
  /** Whether it makes a ref that is not there. */
  public boolean isCreation() {
    return old.equals(ObjectId.zeroId());
  }

  /** Whether it deletes. */
  public boolean isDeletion() {
    return next.equals(ObjectId.zeroId());
  }
}
