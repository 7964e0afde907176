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
 * What became of one command: committed, or refused.
 *
 * @param visible whether it can be read here already
 * @param message why it was refused, for people
 */
public record RefVerdict(Code code, boolean visible, String message) {
  /** The outcome of a command; the names are those of the bridge API. */
  public enum Code {
    /** Committed. */
    COMMITTED,
    /**
     * The ref is not what the command expected. The sidecar has caught up: it can be read what it
     * is.
     */
    STALE,
    /** Another command of an atomic batch was refused. */
    TRANSACTION,
    /** Not a fast-forward, and not forced. */
    NON_FAST_FORWARD,
    /** The new object, or something that it needs, is not in the repository. */
    MISSING_OBJECT,
    /** The name excludes another one, or is reserved. */
    NAME_CONFLICT,
    /** The batch or a name in it breaks a rule of the bridge API. */
    INVALID,
    /** A project of this name is there already (the bridge API says {@code project}). */
    EXISTS,
    /** Locked by a long operation. */
    LOCKED,
    /** The project is not there (any more), or takes no commits. */
    PROJECT,
    /** This sidecar takes no commits now. */
    NOT_SERVING,
    /** The refdb does not take it now. */
    UNAVAILABLE;

    /** Whether it is a verdict on this command, and not trouble that any command would meet now. */
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

  /** Whether it is true everywhere, or will be. */
  public boolean isCommitted() {
    return code == Code.COMMITTED;
  }
}
