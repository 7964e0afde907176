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

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.server.config.AllProjectsName;
import com.google.gerrit.server.config.AllUsersName;
import com.google.gerrit.server.config.SitePaths;
import com.google.gson.JsonObject;
import io.lockstep.bridge.sidecar.RoutedSidecar;
import io.lockstep.bridge.sidecar.Sidecar;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import org.eclipse.jgit.lib.Config;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The handshake at the start. */
final class HandshakeClientTest {
  private static final String HANDSHAKE = "POST /v1/gerrit/hello";
  private static final String STARTS =
      "503 {\"code\":\"not_serving\",\"message\":\"it starts\",\"retry\":true}";
  private static final Duration TIMEOUT = Duration.ofSeconds(3);

  private static final Config GERRIT = new Config();

  static {
    GERRIT.setString("gerrit", null, "basePath", "git");
  }

  @TempDir Path folder;

  private HandshakeClient client(Sidecar sidecar, String instance) throws Exception {
    return new HandshakeClient(
        sidecar,
        new BridgeInstance(),
        "server",
        instance,
        new AllProjectsName("All-Projects"),
        new AllUsersName("All-Users"),
        new BasePaths(GERRIT, new SitePaths(folder)));
  }

  private String refused(String... answers) throws Exception {
    try (RoutedSidecar sidecar = new RoutedSidecar(folder);
        Sidecar client = sidecar.client()) {
      if (answers.length > 0) {
        sidecar.on(HANDSHAKE, answers);
      }
      HandshakeClient handshake = client(client, "a-0");
      String message =
          assertThrows(IllegalStateException.class, () -> handshake.shakeHands(TIMEOUT))
              .getMessage();
      assertTrue(message.contains("must not start"), message);
      return message;
    }
  }

  @Test
  void aSidecarThatStartsIsAskedAgain() throws Exception {
    try (RoutedSidecar sidecar = new RoutedSidecar(folder);
        Sidecar client = sidecar.client()) {
      sidecar.on(
          HANDSHAKE, RoutedSidecar.HANG_UP, STARTS, "200 {\"accepted\":true,\"reason\":null}");
      client(client, "a-0").shakeHands(Duration.ofSeconds(30));
      List<JsonObject> asked = sidecar.asked(HANDSHAKE);
      assertEquals(3, asked.size());
      Set<String> fields =
          Set.of(
              "session",
              "server_id",
              "instance_id",
              "gerrit_version",
              "bridge_version",
              "all_projects",
              "all_users",
              "base_path",
              "base_paths");
      assertEquals(fields, asked.get(0).keySet());
      assertEquals(asked.get(0), asked.get(2));
    }
  }

  @Test
  void aSiteThatIsNotAcceptedDoesNotStart() throws Exception {
    assertTrue(
        refused("200 {\"accepted\":false,\"reason\":\"another server_id\"}")
            .endsWith("another server_id"));
  }

  @Test
  void anOlderSidecarIsNamedAsTheReason() throws Exception {
    assertTrue(refused().contains("upgrade the sidecar first"));
    String unknown =
        "400 {\"code\":\"invalid\",\"message\":\"unknown field `base_path`\",\"retry\":false}";
    assertTrue(
        refused(unknown)
            .endsWith("older than the bridge, upgrade it first: unknown field `base_path`"));
  }

  @Test
  void aSidecarThatStaysAwayEndsTheStart() throws Exception {
    assertTrue(refused(STARTS).contains("did not let it in within 3 seconds: it starts"));
    try (Sidecar away = new RoutedSidecar(folder).closed()) {
      HandshakeClient handshake = client(away, "a-0");
      String message =
          assertThrows(IllegalStateException.class, () -> handshake.shakeHands(TIMEOUT))
              .getMessage();
      assertTrue(message.contains("cannot be reached"), message);
    }
  }

  @Test
  void aNodeNeedsANameOfItsOwn() throws Exception {
    try (RoutedSidecar sidecar = new RoutedSidecar(folder);
        Sidecar client = sidecar.client()) {
      HandshakeClient handshake = client(client, null);
      String message =
          assertThrows(IllegalStateException.class, () -> handshake.shakeHands(TIMEOUT))
              .getMessage();
      assertTrue(message.contains("gerrit.instanceId"), message);
      assertTrue(sidecar.asked(HANDSHAKE).isEmpty());
    }
  }
}
