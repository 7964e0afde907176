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

/**
 * The outcome of one command: committed, or refused.
 *
 * @param visible whether the new value can be read here already
 * @param message for people: why the command was refused, or why the new value cannot be read yet
 */
public record RefVerdict(Code code, boolean visible, String message) {
  /** The code of a verdict, named as in the bridge API. */
  public enum Code {
    /** The new value is true at every site. */
    COMMITTED,
    /** The ref does not have the expected value. Its actual value can be read here. */
    STALE,
    /** Another command of the atomic batch was refused. */
    TRANSACTION,
    /** The update is not a fast-forward, and not forced. */
    NON_FAST_FORWARD,
    /** The new object, or an object that it needs, is not in the repository. */
    MISSING_OBJECT,
    /** The name conflicts with another one, or is reserved. */
    NAME_CONFLICT,
    /** The batch or a name in it breaks a rule of the bridge API. */
    INVALID,
    /** A project with this name exists (code {@code project} in the bridge API). */
    EXISTS,
    /** The ref is locked by a long operation. */
    LOCKED,
    /** The project does not exist, or takes no commits. */
    PROJECT,
    /** This sidecar takes no commits now. */
    NOT_SERVING,
    /** The refdb does not accept the commit now. */
    UNAVAILABLE;

    /**
     * Whether the verdict is about this command, and not about the state of the sidecar or project.
     */
    public boolean isOfTheCommand() {
      return switch (this) {
        case COMMITTED,
            STALE,
            TRANSACTION,
            NON_FAST_FORWARD,
            MISSING_OBJECT,
            NAME_CONFLICT,
            INVALID,
            EXISTS ->
            true;
        case LOCKED, PROJECT, NOT_SERVING, UNAVAILABLE -> false;
      };
    }
  }

  /** Whether the command is committed, at every site. */
  public boolean isCommitted() {
    return code == Code.COMMITTED;
  }
}
