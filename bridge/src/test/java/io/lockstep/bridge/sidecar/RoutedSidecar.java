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

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gerrit.metrics.DisabledMetricMaker;
import com.google.gerrit.metrics.MetricMaker;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.function.BooleanSupplier;

/**
 * Answers concurrent requests. Each method and path has a script of its own, whose last line is
 * repeated. A path without a script is 404, as in an older sidecar.
 */
public final class RoutedSidecar implements AutoCloseable {
  /** Hangs up instead of answering. */
  public static final String HANG_UP = "-";

  private final HttpServer server;
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final Path tokens;
  private final Map<String, Deque<String>> scripts = new ConcurrentHashMap<>();
  private final Map<String, List<JsonObject>> asked = new ConcurrentHashMap<>();

  public RoutedSidecar(Path folder) throws IOException {
    tokens = Files.writeString(folder.resolve("tokens"), "t\n");
    server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.setExecutor(threads);
    server.createContext("/", this::answer);
    server.start();
  }

  /** Sets the script of a method and path: {@code status body}, or {@link #HANG_UP}. */
  public RoutedSidecar on(String route, String... answers) {
    scripts.put(route, new ArrayDeque<>(List.of(answers)));
    return this;
  }

  /** Creates a client of this sidecar. */
  public Sidecar client() {
    return client(new DisabledMetricMaker());
  }

  /** Creates a client of this sidecar that reports its metrics here. */
  public Sidecar client(MetricMaker metrics) {
    return new Sidecar(
        new Endpoint.Tcp(server.getAddress(), tokens), Duration.ofMillis(1500), metrics);
  }

  /** Stops the sidecar. Returns a client that cannot connect. */
  public Sidecar closed() {
    close();
    return client();
  }

  /** The bodies of the requests with this method and path. */
  public List<JsonObject> asked(String route) {
    List<JsonObject> bodies = asked.getOrDefault(route, List.of());
    synchronized (bodies) {
      return List.copyOf(bodies);
    }
  }

  /** Waits until a condition holds, and fails after 20 seconds. */
  public static void await(BooleanSupplier found) {
    long end = System.nanoTime() + Duration.ofSeconds(20).toNanos();
    while (!found.getAsBoolean()) {
      if (System.nanoTime() > end) {
        throw new AssertionError("it does not come");
      }
      Sleeper.sleep(Duration.ofMillis(5));
    }
  }

  @Override
  public void close() {
    server.stop(0);
    threads.shutdownNow();
  }

  private void answer(HttpExchange exchange) throws IOException {
    try (exchange) {
      String route = exchange.getRequestMethod() + " " + exchange.getRequestURI();
      String text = new String(exchange.getRequestBody().readAllBytes(), UTF_8);
      JsonObject body =
          text.isEmpty() ? new JsonObject() : JsonParser.parseString(text).getAsJsonObject();
      List<JsonObject> bodies = asked.computeIfAbsent(route, any -> new ArrayList<>());
      synchronized (bodies) {
        bodies.add(body);
      }
      String line = next(route);
      if (line.equals(HANG_UP)) {
        return;
      }
      byte[] answer = line.substring(4).getBytes(UTF_8);
      exchange.sendResponseHeaders(Integer.parseInt(line.substring(0, 3)), answer.length);
      exchange.getResponseBody().write(answer);
    }
  }

  private String next(String route) {
    Deque<String> script = scripts.get(route);
    if (script == null) {
      return "404 {\"code\":\"invalid\",\"message\":\"no route " + route + "\",\"retry\":false}";
    }
    synchronized (script) {
      return script.size() > 1 ? script.poll() : script.peek();
    }
  }
}
