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

package io.lockstep.bridge;

import com.google.common.base.Strings;
import com.google.common.flogger.FluentLogger;
import com.google.gerrit.common.Nullable;
import com.google.gerrit.common.Version;
import com.google.gerrit.server.config.AllProjectsName;
import com.google.gerrit.server.config.AllUsersName;
import com.google.gerrit.server.config.GerritInstanceId;
import com.google.gerrit.server.config.GerritServerId;
import com.google.gson.JsonObject;
import com.google.inject.Inject;
import io.lockstep.bridge.sidecar.Pause;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarError;
import io.lockstep.bridge.sidecar.SidecarException;
import java.io.IOException;
import java.time.Duration;
import java.util.Objects;

/**
 * Tells the sidecar at the start which Gerrit this is. A site that was not born from the first one,
 * or whose repositories are not what the refdb says, must not serve: then this throws, and Gerrit
 * does not start.
 */
final class Hello {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final Duration ONE_TRY = Duration.ofSeconds(10);
  private static final long PAUSE_MILLIS = 500;
  private static final int NOT_FOUND = 404;

  private final Sidecar sidecar;
  private final JsonObject introduction;

  @Inject
  Hello(
      Sidecar sidecar,
      BridgeProcess process,
      @GerritServerId String serverId,
      @Nullable @GerritInstanceId String instanceId,
      AllProjectsName allProjects,
      AllUsersName allUsers,
      BasePaths basePaths) {
    this.sidecar = sidecar;
    introduction = new JsonObject();
    introduction.addProperty("session", process.id());
    introduction.addProperty("server_id", serverId);
    introduction.addProperty("instance_id", Strings.nullToEmpty(instanceId));
    introduction.addProperty(
        "gerrit_version", Objects.requireNonNullElse(Version.getVersion(), "unknown"));
    String bridge = Hello.class.getPackage().getImplementationVersion();
    introduction.addProperty("bridge_version", Objects.requireNonNullElse(bridge, "unknown"));
    introduction.addProperty("all_projects", allProjects.get());
    introduction.addProperty("all_users", allUsers.get());
    basePaths.tell(introduction);
  }

  /**
   * Asks until the sidecar knows.
   *
   * @param patience how long a sidecar may take that starts, or is away
   * @throws IllegalStateException with the reason why Gerrit must not start, and the way out
   */
  void say(Duration patience) {
    if (introduction.get("instance_id").getAsString().isEmpty()) {
      throw refuse("gerrit.instanceId is not set in gerrit.config; give each node another one");
    }
    long end = System.nanoTime() + patience.toNanos();
    String trouble = null;
    while (trouble == null || System.nanoTime() < end) {
      try {
        judge(sidecar.call("/v1/gerrit/hello", introduction, ONE_TRY));
        return;
      } catch (SidecarError e) {
        if (!e.retry()) {
          throw refuse(explain(e));
        }
        trouble = tell(trouble, e.getMessage());
      } catch (IOException e) {
        trouble =
            tell(
                trouble,
                e instanceof SidecarException ? e.getMessage() : "its answer was lost: " + e);
      }
      Pause.of(PAUSE_MILLIS);
      if (Thread.currentThread().isInterrupted()) {
        break;
      }
    }
    throw refuse(
        "its sidecar did not let it in within "
            + patience.toSeconds()
            + " seconds: "
            + trouble
            + ". Mend that (`lockstep status` at this node shows more), then start Gerrit again");
  }

  private static void judge(JsonObject answer) throws IOException {
    boolean accepted;
    String reason;
    try {
      accepted = answer.get("accepted").getAsBoolean();
      reason = accepted ? null : answer.get("reason").getAsString();
    } catch (RuntimeException e) {
      throw new IOException("the sidecar's answer cannot be read: " + answer, e);
    }
    if (!accepted) {
      throw refuse(reason);
    }
  }

  private static String explain(SidecarError error) {
    return error.status() == NOT_FOUND
        ? "the sidecar is older than this bridge and does not know its greeting; upgrade the"
            + " sidecar first"
        : "the sidecar refuses the bridge's greeting; where it is older than the bridge, upgrade it"
            + " first: "
            + error.getMessage();
  }

  private static String tell(String before, String now) {
    if (!now.equals(before)) {
      logger.atWarning().log("Lockstep: Gerrit waits for its sidecar: %s", now);
    }
    return now;
  }

  private static IllegalStateException refuse(String reason) {
    return new IllegalStateException("Lockstep: this Gerrit must not start: " + reason);
  }
}
