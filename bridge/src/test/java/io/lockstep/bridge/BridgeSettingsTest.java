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

import io.lockstep.bridge.sidecar.Endpoint;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.time.Duration;
import org.eclipse.jgit.lib.Config;
import org.junit.jupiter.api.Test;

/** The settings of an administrator, and the messages about wrong ones. */
final class BridgeSettingsTest {
  private static final Path SITE = Path.of("/site");

  private static BridgeSettings read(String text) throws Exception {
    Config config = new Config();
    config.fromText(text);
    return BridgeSettings.read(config, SITE);
  }

  private static void refused(String text, String... parts) {
    String message = assertThrows(IllegalStateException.class, () -> read(text)).getMessage();
    for (String part : parts) {
      assertTrue(message.contains(part), message);
    }
  }

  @Test
  void aSocketIsEnough() throws Exception {
    BridgeSettings settings =
        read("[core]\nusePerRequestRefCache = false\n[lockstep]\nsocket = run/api.sock\n");
    assertEquals(new Endpoint.Unix(Path.of("/site/run/api.sock")), settings.endpoint());
    assertEquals(Duration.ofSeconds(15), settings.timeout());
    assertEquals(Duration.ofMinutes(5), settings.commitWithin());
  }

  @Test
  void theIndexThatWritesLastCounts() throws Exception {
    String good = "[core]\nusePerRequestRefCache = false\n[lockstep]\nsocket = run/api.sock\n";
    String quick = "";
    for (String index :
        new String[] {"accounts", "changes_open", "changes_closed", "groups", "projects"}) {
      quick += "[index \"%s\"]\ncommitWithin = 2 s\n".formatted(index);
    }
    assertEquals(Duration.ofSeconds(2), read(good + quick).commitWithin());
    String slow = "[index \"changes_closed\"]\ncommitWithin = 20 m\n";
    assertEquals(Duration.ofMinutes(20), read(good + quick + slow).commitWithin());
    String never = "[index \"groups\"]\ncommitWithin = -1\n";
    refused(good + never, "index.groups.commitWithin is -1", "when it is killed", "up to 1 day");
    refused(good + never.replace("-1", "40 d"), "index.groups.commitWithin is 40 d; give");
  }

  @Test
  void anAsynchronousIndexIsTaken() throws Exception {
    read(
        "[core]\nusePerRequestRefCache = false\n[lockstep]\nsocket = run/api.sock\n"
            + "[index]\nindexChangesAsync = true\n");
  }

  @Test
  void tcpNeedsATokenFile() throws Exception {
    String text =
        "[core]\n"
            + "usePerRequestRefCache = false\n"
            + "[lockstep]\n"
            + "url = http://127.0.0.1:7411\n"
            + "timeout = 5 s\n";
    BridgeSettings settings = read(text + "tokenFile = /etc/token\n");
    InetSocketAddress address = new InetSocketAddress("127.0.0.1", 7411);
    assertEquals(
        new BridgeSettings(
            new Endpoint.Tcp(address, Path.of("/etc/token")),
            Duration.ofSeconds(5),
            Duration.ofMinutes(5)),
        settings);
    refused(text, "lockstep.tokenFile");
  }

  @Test
  void aBasePathOfNoProjectsIsRefused() throws Exception {
    String good = "[core]\nusePerRequestRefCache = false\n[lockstep]\nsocket = run/api.sock\n";
    refused(good + "[repository]\nbasePath = /big\n", "repository.basePath");
    read(
        good
            + "[repository \"big/*\"]\n"
            + "basePath = /big\n"
            + "[repository]\n"
            + "defaultSubmitType = MERGE_IF_NECESSARY\n");
  }

  @Test
  void everythingThatIsWrongIsToldAtOnce() {
    refused(
        "[lockstep]\ntimeout = 1 s\n",
        "core.usePerRequestRefCache",
        "lockstep.socket",
        "lockstep.timeout is 1000 ms");
    refused("[lockstep]\nsocket = a\nurl = http://127.0.0.1:1\n", "give either");
    refused("[lockstep]\ntimeout = soon\n", "lockstep.timeout");
    for (String url :
        new String[] {"127.0.0.1:1", "https://127.0.0.1:1", "http://127.0.0.1", "http:// x"}) {
      refused("[lockstep]\ntokenFile = t\nurl = " + url + "\n", "lockstep.url is");
    }
    refused("[lockstep]\ntokenFile = t\nurl = http://192.0.2.1:1\n", "not the loopback");
  }
}
