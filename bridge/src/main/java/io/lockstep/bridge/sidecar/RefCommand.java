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
 * A command on one ref: its value must be {@code old}, and becomes {@code next}. {@link
 * ObjectId#zeroId()} stands for a ref that does not exist.
 *
 * <p>There is no "fast-forward only": the creator of a command has checked the objects, and {@code
 * old} makes sure that nothing changed since.
 */
public record RefCommand(String ref, ObjectId old, ObjectId next) {
  /** Whether the command creates the ref. */
  public boolean isCreation() {
    return old.equals(ObjectId.zeroId());
  }

  /** Whether the command deletes the ref. */
  public boolean isDeletion() {
    return next.equals(ObjectId.zeroId());
  }
}
