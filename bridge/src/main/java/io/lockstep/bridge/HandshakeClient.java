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

import static java.util.Objects.requireNonNullElse;

import com.google.common.base.Strings;
import com.google.common.flogger.FluentLogger;
import com.google.gerrit.common.Nullable;
import com.google.gerrit.common.Version;
import com.google.gerrit.server.config.AllProjectsName;
import com.google.gerrit.server.config.AllUsersName;
import com.google.gerrit.server.config.GerritInstanceId;
import com.google.gerrit.server.config.GerritServerId;
import com.google.inject.Inject;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarCall;
import io.lockstep.bridge.sidecar.SidecarError;
import io.lockstep.bridge.sidecar.SidecarException;
import io.lockstep.bridge.sidecar.Sleeper;
import java.io.IOException;
import java.time.Duration;
import java.util.List;

/**
 * Introduces this Gerrit to the sidecar at the start. A site that was not copied from the first
 * one, or whose repositories differ from the refdb, must not serve: then the handshake throws, and
 * Gerrit does not start.
 */
final class HandshakeClient {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final Duration CALL_TIMEOUT = Duration.ofSeconds(10);
  private static final Duration RETRY_PAUSE = Duration.ofMillis(500);
  private static final int NOT_FOUND = 404;

  private final Sidecar sidecar;
  private final Request request;

  /** {@code HandshakeRequest} of the bridge API. */
  private record Request(
      String session,
      String serverId,
      String instanceId,
      String gerritVersion,
      String bridgeVersion,
      String allProjects,
      String allUsers,
      String basePath,
      List<BasePaths.ForProjects> basePaths) {}

  /** {@code HandshakeResponse} of the bridge API. */
  private record Response(Boolean accepted, String reason) {
    boolean isReadable() {
      return accepted != null && (accepted || reason != null);
    }
  }

  @Inject
  HandshakeClient(
      Sidecar sidecar,
      BridgeInstance instance,
      @GerritServerId String serverId,
      @Nullable @GerritInstanceId String instanceId,
      AllProjectsName allProjects,
      AllUsersName allUsers,
      BasePaths basePaths) {
    this.sidecar = sidecar;
    this.request =
        new Request(
            instance.id(),
            serverId,
            Strings.nullToEmpty(instanceId),
            requireNonNullElse(Version.getVersion(), "unknown"),
            requireNonNullElse(
                HandshakeClient.class.getPackage().getImplementationVersion(), "unknown"),
            allProjects.get(),
            allUsers.get(),
            basePaths.defaultPath(),
            basePaths.forProjects());
  }

  /**
   * Asks until the sidecar has decided.
   *
   * @param timeout how long to wait for a sidecar that starts or is away
   * @throws IllegalStateException with the reason why Gerrit must not start, and what to do
   */
  void shakeHands(Duration timeout) {
    if (request.instanceId().isEmpty()) {
      throw refuse("gerrit.instanceId is not set in gerrit.config; give each node another one");
    }
    long end = System.nanoTime() + timeout.toNanos();
    String trouble = null;
    while (trouble == null || System.nanoTime() < end) {
      try {
        check(sidecar.call(SidecarCall.HANDSHAKE, request, Response.class, CALL_TIMEOUT));
        return;
      } catch (SidecarError e) {
        if (!e.retry()) {
          throw refuse(explain(e));
        }
        trouble = logChange(trouble, e.getMessage());
      } catch (SidecarException e) {
        trouble = logChange(trouble, e.getMessage());
      } catch (IOException e) {
        trouble = logChange(trouble, "its answer was lost: " + e);
      }
      Sleeper.sleep(RETRY_PAUSE);
      if (Thread.currentThread().isInterrupted()) {
        break;
      }
    }
    throw refuse(
        "its sidecar did not let it in within "
            + timeout.toSeconds()
            + " seconds: "
            + trouble
            + ". Mend that (`lockstep status` at this node shows more), then start Gerrit again");
  }

  private static void check(Response response) throws IOException {
    if (!response.isReadable()) {
      throw new IOException("the sidecar's answer cannot be read: " + response);
    }
    if (!response.accepted()) {
      throw refuse(response.reason());
    }
  }

  private static String explain(SidecarError error) {
    return error.status() == NOT_FOUND
        ? "the sidecar is older than this bridge and does not know its greeting;"
            + " upgrade the sidecar first"
        : "the sidecar refuses the bridge's greeting;"
            + " where it is older than the bridge, upgrade it first: "
            + error.getMessage();
  }

  /** Logs a trouble when it is another one than before. */
  private static String logChange(String before, String now) {
    if (!now.equals(before)) {
      logger.atWarning().log("Lockstep: Gerrit waits for its sidecar: %s", now);
    }
    return now;
  }

  private static IllegalStateException refuse(String reason) {
    return new IllegalStateException("Lockstep: this Gerrit must not start: " + reason);
  }
}
