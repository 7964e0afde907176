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

import java.io.IOException;

/**
 * The sidecar did not commit, or it is not known whether it did. The message is for the user who
 * pushes or clicks: the reason, whether anything was changed, and the next step.
 *
 * <p>This is never a lost compare: Gerrit retries those, and they are verdicts. Programs must not
 * retry after this exception.
 */
public final class SidecarException extends IOException {
  /** The kinds of failure, by their effect on the update. */
  public enum Kind {
    /** The sidecar could not be reached. Nothing was changed. */
    AWAY,
    /**
     * This very update cannot be committed, now or later: another name or another value can.
     * Nothing was changed.
     */
    REJECTED,
    /**
     * The sidecar takes no such commit now, because of its role or state or the project. Nothing
     * was changed.
     */
    REFUSED,
    /**
     * The answer was lost, or was "unknown"; or the update is committed and cannot be seen here.
     */
    UNKNOWN
  }

  /** The beginning of every message for users. */
  public static final String PREFIX = "Lockstep: ";

  private final Kind kind;

  SidecarException(Kind kind, String message, Throwable cause) {
    super(message, cause);
    this.kind = kind;
  }

  /** The kind of this failure, which says whether anything was changed. */
  public Kind kind() {
    return kind;
  }

  static SidecarException away(Endpoint endpoint, IOException cause) {
    String message =
        "Lockstep: the sidecar of this server cannot be reached at %s (%s). Nothing was changed,"
            + " and reading goes on; try again in a moment, or tell the administrator.";
    return new SidecarException(Kind.AWAY, message.formatted(endpoint, cause.getMessage()), cause);
  }

  /** The sidecar refused, in a place where a verdict cannot be returned. */
  public static SidecarException refused(String why) {
    return new SidecarException(Kind.REFUSED, PREFIX + why, null);
  }

  /** The sidecar rejected this very update. */
  public static SidecarException rejected(String why) {
    return new SidecarException(Kind.REJECTED, PREFIX + why, null);
  }

  /** The update is committed, and this server could not show it in time. */
  public static SidecarException unseen(String why) {
    return new SidecarException(Kind.UNKNOWN, PREFIX + why, null);
  }

  /** The update is committed, and this server does not show it. */
  public static SidecarException invisible(String what) {
    String message =
        "Lockstep: %s is committed, and not where this server looks for it yet. If it stays so,"
            + " gerrit.basePath is not the sidecar's root, or a repository.*.basePath none of its"
            + " base paths: tell the administrator.";
    return new SidecarException(Kind.UNKNOWN, message.formatted(what), null);
  }

  static SidecarException unknown(String why) {
    String message =
        "Lockstep: it is not known yet whether this was committed (%s). Nothing is lost: reload or"
            + " fetch in a moment, and look before you repeat it.";
    return new SidecarException(Kind.UNKNOWN, message.formatted(why), null);
  }
}
