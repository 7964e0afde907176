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

import com.google.gerrit.metrics.DisabledMetricMaker;
import io.lockstep.bridge.sidecar.Endpoint;
import io.lockstep.bridge.sidecar.Sidecar;
import java.io.File;
import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.concurrent.TimeUnit;

/** A real sidecar with the embedded emulators, in a folder of its own, ended by its process id. */
public final class TestSidecar {
  private static final Duration READY = Duration.ofSeconds(60);

  private final Path folder;
  private final Process process;

  public TestSidecar() throws Exception {
    String binary = System.getProperty("lockstep.binary");
    if (binary == null || !new File(binary).canExecute()) {
      throw new IllegalStateException(
          "no sidecar at " + binary + ": `make bridge` builds it, or give -Dlockstep.binary");
    }
    folder = Files.createTempDirectory("lockstep-bridge-");
    Path config = folder.resolve("lockstep.toml");
    Files.writeString(config, CONFIGURATION.formatted(folder));
    process =
        new ProcessBuilder(binary, "run", "--config", config.toString())
            .redirectErrorStream(true)
            .redirectOutput(folder.resolve("log").toFile())
            .start();
    awaitReady();
  }

  private static final String CONFIGURATION =
      """
      site = "here"
      node = "here-0"
      sites = ["here"]
      root = "%1$s/git"
      state = "%1$s/git/.lockstep"
      [api]
      socket = "%1$s/run/api.sock"
      [health]
      listen = "127.0.0.1:0"
      [refdb]
      prefix = "test"
      [eventlog]
      prefix = "test"
      poll_interval = "20ms"
      [gerrit]
      refresh = "bridge"
      [embedded]
      dir = "%1$s/aws"
      [telemetry]
      log_format = "text"
      """;

  /** Creates a client of this sidecar. */
  public Sidecar client() {
    return new Sidecar(
        new Endpoint.Unix(socket()), Duration.ofSeconds(60), new DisabledMetricMaker());
  }

  /** Creates a client that sends larger batches in parts. */
  public Sidecar client(int maxCommands) {
    return new Sidecar(
        new Endpoint.Unix(socket()),
        Duration.ofSeconds(60),
        new DisabledMetricMaker(),
        maxCommands);
  }

  /** The folder of the repositories. */
  public Path root() {
    return folder.resolve("git");
  }

  public Path socket() {
    return folder.resolve("run/api.sock");
  }

  /** Stops the process in an orderly way, and removes its folder. */
  public void stop() throws Exception {
    process.destroy();
    if (!process.waitFor(20, TimeUnit.SECONDS)) {
      process.destroyForcibly().waitFor();
    }
    try (var files = Files.walk(folder)) {
      files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
    }
  }

  private void awaitReady() throws Exception {
    long end = System.nanoTime() + READY.toNanos();
    while (!status().contains("\"ready\":true")) {
      if (!process.isAlive() || System.nanoTime() > end) {
        throw new IllegalStateException(
            "the sidecar is not ready:\n" + Files.readString(folder.resolve("log")));
      }
      Thread.sleep(50);
    }
  }

  private String status() {
    try (SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX)) {
      channel.connect(UnixDomainSocketAddress.of(socket()));
      String request = "GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
      channel.write(ByteBuffer.wrap(request.getBytes(StandardCharsets.US_ASCII)));
      return new String(Channels.newInputStream(channel).readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      return "";
    }
  }
}
