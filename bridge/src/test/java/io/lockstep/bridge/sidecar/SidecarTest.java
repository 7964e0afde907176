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

import static io.lockstep.bridge.sidecar.ScriptedSidecar.HANG_UP;
import static io.lockstep.bridge.sidecar.ScriptedSidecar.SILENCE;
import static io.lockstep.bridge.sidecar.ScriptedSidecar.http;
import static io.lockstep.bridge.sidecar.ScriptedSidecar.verdict;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.metrics.DisabledMetricMaker;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.lockstep.bridge.CountingMetricMaker;
import io.lockstep.bridge.sidecar.RefVerdict.Code;
import io.lockstep.bridge.sidecar.SidecarException.Kind;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import org.eclipse.jgit.lib.ObjectId;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The result of a call, also when its answers are lost. */
final class SidecarTest {
  private static final ObjectId VALUE =
      ObjectId.fromString("deadbeefdeadbeefdeadbeefdeadbeefdeadbeef");
  private static final List<RefCommand> ONE =
      List.of(new RefCommand("refs/heads/x", ObjectId.zeroId(), VALUE));
  private static final String NOT_SERVING =
      http(503, "{\"code\":\"not_serving\",\"message\":\"it starts\",\"retry\":true}");

  @TempDir Path folder;

  private ScriptedSidecar scripted(String... answers) throws Exception {
    return new ScriptedSidecar(folder.resolve("s"), answers);
  }

  private Sidecar client() {
    return new Sidecar(
        new Endpoint.Unix(folder.resolve("s")), Duration.ofMillis(1500), new DisabledMetricMaker());
  }

  private RefVerdict commit(Sidecar client) throws SidecarException {
    return client.commit("tools/büild", true, ONE, "T <t@example.com>").get(0);
  }

  private Kind fails(Sidecar client) {
    return assertThrows(SidecarException.class, () -> commit(client)).kind();
  }

  @Test
  void aBatchIsOneRequest() throws Exception {
    try (ScriptedSidecar sidecar = scripted(verdict("committed", null));
        Sidecar client = client()) {
      assertTrue(commit(client).visible());
      String[] request = sidecar.requests.get(0).split("\n", 2);
      assertEquals("POST /v1/projects/tools%2Fb%C3%BCild/ref-transactions HTTP/1.1", request[0]);
      JsonObject body = JsonParser.parseString(request[1]).getAsJsonObject();
      assertEquals("T <t@example.com>", body.get("actor").getAsString());
      long deadline = body.get("deadline_ms").getAsLong();
      assertTrue(deadline > 0 && deadline <= 500, "it answers before we stop waiting: " + deadline);
      String command =
          "{\"ref\":\"refs/heads/x\",\"old\":\"absent\",\"new\":\"%s\",\"force\":true}";
      assertEquals(
          command.formatted(VALUE.name()), body.getAsJsonArray("commands").get(0).toString());
    }
  }

  @Test
  void theTransactionOfACommittedValueIsKept() throws Exception {
    String refused =
        "{\"ref\":\"refs/heads/x\",\"outcome\":\"refused\","
            + "\"refusal\":{\"code\":\"stale\",\"message\":\"it moved\"}}";
    String committed = "{\"ref\":\"refs/heads/x\",\"outcome\":\"committed\"}";
    String answer = "{\"outcome\":\"x\",\"txn\":%s,\"results\":[%s]}";
    try (ScriptedSidecar sidecar =
            scripted(
                http(200, answer.formatted("null", refused)),
                http(200, answer.formatted("\"a-0.1.0.7.00000000000000aa\"", committed)));
        Sidecar client = client()) {
      assertFalse(commit(client).isCommitted());
      assertEquals(Optional.empty(), client.transactionOf(VALUE));
      assertTrue(commit(client).isCommitted());
      assertEquals(Optional.of("a-0.1.0.7.00000000000000aa"), client.transactionOf(VALUE));
      assertEquals(Optional.empty(), client.transactionOf(ObjectId.zeroId()));
      assertEquals(2, sidecar.requests.size());
    }
  }

  @Test
  void theJsonIsThatOfTheBridgeApi() {
    RefCommand deletion = new RefCommand("refs/heads/x", VALUE, ObjectId.zeroId());
    Messages.RefTransaction request =
        new Messages.RefTransaction(
            "r", true, "T <t@a>", "why", List.of(Messages.Command.of(deletion)), 0);
    String command = "{\"ref\":\"refs/heads/x\",\"old\":\"%s\",\"new\":null,\"force\":true}";
    assertEquals(
        "{\"request_id\":\"r\",\"atomic\":true,\"actor\":\"T <t@a>\",\"message\":\"why\","
            + "\"commands\":["
            + command.formatted(VALUE.name())
            + "],\"deadline_ms\":1}",
        Json.write(request.withDeadline(-5)));
    assertEquals("{\"request_id\":\"r\",\"head\":\"h\"}", Json.write(new Messages.Head("r", "h")));
    assertEquals("{\"request_id\":\"r\"}", Json.write(new Messages.Deletion("r")));
  }

  @Test
  void callsAreCountedByTheirOutcome() throws Exception {
    CountingMetricMaker metrics = new CountingMetricMaker();
    Endpoint endpoint = new Endpoint.Unix(folder.resolve("s"));
    String call = "lockstep/sidecar/calls/commit/";
    try (Sidecar client = new Sidecar(endpoint, Duration.ofMillis(1500), metrics)) {
      assertEquals(Kind.AWAY, fails(client));
      String[] answers = {
        verdict("committed", null), verdict("refused", "stale"), NOT_SERVING, HANG_UP
      };
      try (ScriptedSidecar sidecar = scripted(answers)) {
        commit(client);
        assertEquals(Code.STALE, commit(client).code());
        assertEquals(Kind.REFUSED, fails(client));
        assertEquals(Kind.UNKNOWN, fails(client));
        assertFalse(sidecar.requests.isEmpty());
      }
    }
    for (String outcome : List.of("away", "ok", "rejected", "refused", "unknown")) {
      assertEquals(1, metrics.count(call + outcome), outcome);
    }
    assertEquals(1, metrics.count("lockstep/updates_unknown"));
    assertEquals(0, metrics.count("lockstep/updates_unseen"));
  }

  @Test
  void aCommittedUpdateThatCannotBeReadHereIsCountedAndInDoubt() throws Exception {
    CountingMetricMaker metrics = new CountingMetricMaker();
    Endpoint endpoint = new Endpoint.Unix(folder.resolve("s"));
    Sidecar.Awaiting inVain =
        verdicts -> {
          throw SidecarException.unseen("refs/heads/x is not here");
        };
    try (ScriptedSidecar sidecar = scripted(verdict("committed_not_yet_visible", null));
        Sidecar client = new Sidecar(endpoint, Duration.ofMillis(1500), metrics)) {
      SidecarException told =
          assertThrows(
              SidecarException.class,
              () -> client.commit("p", true, ONE, "T <t@example.com>", null, inVain));
      assertEquals(Kind.UNKNOWN, told.kind());
      assertEquals(1, sidecar.requests.size());
      assertEquals(1, client.inDoubtUpdates().size());
    }
    assertEquals(1, metrics.count("lockstep/updates_unseen"));
  }

  @Test
  void theRoleIsAskedForWithoutABody() throws Exception {
    try (ScriptedSidecar sidecar = scripted(http(200, "{\"role\":\"active\"}"));
        Sidecar client = client()) {
      assertEquals("active", client.role());
      assertEquals("GET /v1/status HTTP/1.1\n", sidecar.requests.get(0));
    }
  }

  @Test
  void aConnectionIsUsedAgain() throws Exception {
    try (ScriptedSidecar sidecar = scripted(verdict("committed", null));
        Sidecar client = client()) {
      for (int n = 0; n < 5; n++) {
        commit(client);
      }
      assertEquals(1, sidecar.connections);
    }
  }

  @Test
  void aLostAnswerIsAskedForAgainUnderTheSameId() throws Exception {
    try (ScriptedSidecar sidecar = scripted(HANG_UP, NOT_SERVING, verdict("committed", null));
        Sidecar client = client()) {
      assertTrue(commit(client).isCommitted());
      List<String> ids = sidecar.requests.stream().map(SidecarTest::requestId).distinct().toList();
      assertEquals(1, ids.size(), ids.toString());
      assertEquals(3, sidecar.requests.size());
    }
  }

  @Test
  void anUnknownOutcomeIsAskedForAgain() throws Exception {
    try (ScriptedSidecar sidecar =
            scripted(verdict("unknown", "unavailable"), verdict("refused", "stale"));
        Sidecar client = client()) {
      assertEquals(Code.STALE, commit(client).code());
      assertEquals(2, sidecar.requests.size());
    }
  }

  @Test
  void anUpdateInDoubtIsNeitherCommittedNorRefused() throws Exception {
    for (String answer :
        List.of(
            HANG_UP,
            SILENCE,
            verdict("unknown", "unavailable"),
            http(200, "{}"),
            "garbage\r\n\r\n")) {
      try (ScriptedSidecar sidecar = scripted(answer);
          Sidecar client = client()) {
        assertEquals(Kind.UNKNOWN, fails(client), answer);
        assertFalse(sidecar.requests.isEmpty());
      }
      Files.delete(folder.resolve("s"));
    }
  }

  @Test
  void aSidecarThatIsAwayFailsTheCallAtOnce() throws Exception {
    long start = System.nanoTime();
    try (Sidecar client = client()) {
      assertEquals(Optional.empty(), client.recentFailure());
      assertEquals(Kind.AWAY, fails(client));
      assertTrue(client.recentFailure().orElseThrow().contains("Nothing was changed"));
    }
    assertTrue(Duration.ofNanos(System.nanoTime() - start).toMillis() < 500);
  }

  @Test
  void aSidecarThatWentAwayFailsTheCallAtOnceToo() throws Exception {
    try (Sidecar client = client()) {
      try (ScriptedSidecar sidecar = scripted(verdict("committed", null))) {
        commit(client);
        assertEquals(1, sidecar.requests.size());
      }
      assertEquals(Kind.AWAY, fails(client), "the idle connection was not taken for a living one");
    }
  }

  @Test
  void troubleIsNoVerdict() throws Exception {
    for (String answer :
        List.of(NOT_SERVING, verdict("refused", "unavailable"), verdict("refused", "project"))) {
      try (ScriptedSidecar sidecar = scripted(answer);
          Sidecar client = client()) {
        assertEquals(Kind.REFUSED, fails(client), answer);
        assertEquals(1, sidecar.requests.size());
      }
      Files.delete(folder.resolve("s"));
    }
  }

  @Test
  void aMalformedRequestIsAVerdict() throws Exception {
    String malformed =
        http(400, "{\"code\":\"invalid\",\"message\":\"a bad name\",\"retry\":false}");
    try (ScriptedSidecar sidecar = scripted(malformed);
        Sidecar client = client()) {
      assertEquals(new RefVerdict(Code.INVALID, false, "a bad name"), commit(client));
      assertEquals(1, sidecar.requests.size());
    }
  }

  @Test
  void theTokenIsReadAtEachCall() throws Exception {
    Path file = folder.resolve("tokens");
    Endpoint tcp = new Endpoint.Tcp(new InetSocketAddress("127.0.0.1", 1), file);
    assertThrows(IOException.class, tcp::authorization);
    Files.writeString(file, "\n one \n two\n");
    assertEquals(Optional.of("Bearer one"), tcp.authorization());
    Files.writeString(file, "two\n");
    assertEquals(Optional.of("Bearer two"), tcp.authorization());
  }

  private static String requestId(String request) {
    return JsonParser.parseString(request.split("\n", 2)[1])
        .getAsJsonObject()
        .get("request_id")
        .getAsString();
  }
}
