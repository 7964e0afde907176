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

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.List;

/** Answers each request with the next line of a script, on one connection at a time. */
public final class ScriptedSidecar implements AutoCloseable {
  /** Hangs up instead of answering. */
  public static final String HANG_UP = "hang up";

  /** Keeps the connection and sends nothing. */
  public static final String SILENCE = "silence";

  /** The requests: the first line and the body of each. */
  public final List<String> requests = Collections.synchronizedList(new ArrayList<>());

  volatile int connections;

  private final Deque<String> script = new ArrayDeque<>();
  private final ServerSocketChannel listener;
  private final Thread thread = new Thread(this::serve, "scripted sidecar");

  public ScriptedSidecar(Path socket, String... answers) throws IOException {
    script.addAll(List.of(answers));
    listener =
        ServerSocketChannel.open(StandardProtocolFamily.UNIX)
            .bind(UnixDomainSocketAddress.of(socket));
    thread.start();
  }

  public static String http(int status, String body) {
    return "HTTP/1.1 "
        + status
        + " x\r\nContent-Length: "
        + body.getBytes(UTF_8).length
        + "\r\n\r\n"
        + body;
  }

  /** An answer to a batch of one. */
  public static String verdict(String outcome, String code) {
    String refusal =
        code == null
            ? ""
            : ",\"refusal\":{\"code\":\"%s\",\"message\":\"because %s\"}".formatted(code, code);
    return http(
        200,
        "{\"outcome\":\"%1$s\",\"results\":[{\"ref\":\"refs/heads/x\",\"outcome\":\"%1$s\"%2$s}]}"
            .formatted(outcome, refusal));
  }

  @Override
  public void close() throws IOException {
    listener.close();
    thread.interrupt();
    try {
      thread.join();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private void serve() {
    while (listener.isOpen()) {
      try (SocketChannel channel = listener.accept()) {
        connections++;
        converse(channel);
      } catch (IOException e) {
        // The client or the test hung up.
      }
    }
  }

  private void converse(SocketChannel channel) throws IOException {
    BufferedReader input =
        new BufferedReader(new InputStreamReader(Channels.newInputStream(channel), UTF_8));
    OutputStream output = Channels.newOutputStream(channel);
    for (String request = read(input); request != null; request = read(input)) {
      requests.add(request);
      String answer = script.size() > 1 ? script.poll() : script.peek();
      switch (answer) {
        case HANG_UP -> {
          return;
        }
        case SILENCE -> {}
        default -> output.write(answer.getBytes(UTF_8));
      }
    }
  }

  /** Reads the first line and the body of a request. Returns null if the client hung up. */
  private static String read(BufferedReader input) throws IOException {
    String first = input.readLine();
    int length = 0;
    for (String line = first; line != null && !line.isEmpty(); line = input.readLine()) {
      if (line.startsWith("content-length: ")) {
        length = Integer.parseInt(line.substring("content-length: ".length()));
      }
    }
    char[] body = new char[length];
    for (int at = 0; at < length; ) {
      at += input.read(body, at, length - at);
    }
    return first == null ? null : first + "\n" + new String(body);
  }
}
