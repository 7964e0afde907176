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

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayOutputStream;
import java.io.Closeable;
import java.io.EOFException;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.net.ProtocolException;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.time.Duration;
import java.util.Locale;

/**
 * One connection to the sidecar, for one request at a time.
 *
 * <p>The HTTP client of the JDK does not support Unix sockets, and a blocking read on one has no
 * timeout. So the channel does not block, and each wait ends at the caller's deadline. The only
 * peer is the sidecar: it always sends a content-length, and no other form of body is supported.
 */
final class HttpConnection implements Closeable {
  /** The limit on a body, far above the largest answer: 50,000 verdicts with their reasons. */
  private static final int MAX_BODY_BYTES = 64 << 20;

  private static final int MAX_LINE_BYTES = 8 << 10;
  private static final int MAX_HEADERS = 64;

  private final SocketChannel channel;
  private final Selector selector;
  private final SelectionKey key;
  private final ByteBuffer input = ByteBuffer.allocate(16 << 10).flip();
  private boolean reusable = true;

  private HttpConnection(SocketChannel channel, Selector selector) throws IOException {
    this.channel = channel;
    this.selector = selector;
    this.key = channel.register(selector, 0);
  }

  static HttpConnection open(Endpoint endpoint) throws IOException {
    SocketChannel channel = endpoint.connect();
    try {
      return new HttpConnection(channel, Selector.open());
    } catch (IOException e) {
      channel.close();
      throw e;
    }
  }

  /**
   * Sends a request and reads the answer. After an exception the connection cannot be used again.
   */
  HttpResponse exchange(HttpRequest request, Deadline deadline) throws IOException {
    reusable = false;
    write(encode(request), deadline);
    return readAnswer(deadline);
  }

  /**
   * Whether another request can be sent: the last answer was read completely, and the peer is still
   * connected.
   */
  boolean isReusable() throws IOException {
    if (!reusable || input.hasRemaining()) {
      return false;
    }
    int unasked = channel.read(input.clear());
    input.flip();
    return unasked == 0;
  }

  @Override
  public void close() throws IOException {
    try (channel) {
      selector.close();
    }
  }

  private static ByteBuffer encode(HttpRequest request) {
    byte[] body = request.body().getBytes(UTF_8);
    StringBuilder head = new StringBuilder();
    head.append(request.method())
        .append(' ')
        .append(request.target())
        .append(" HTTP/1.1\r\nhost: lockstep\r\n");
    // Gerrit's own checker has judged the objects of all that comes from here.
    head.append("lockstep-objects: judged\r\n");
    if (body.length > 0) {
      head.append("content-type: application/json\r\ncontent-length: ")
          .append(body.length)
          .append("\r\n");
    }
    request
        .authorization()
        .ifPresent(value -> head.append("authorization: ").append(value).append("\r\n"));
    byte[] start = head.append("\r\n").toString().getBytes(ISO_8859_1);
    return ByteBuffer.allocate(start.length + body.length).put(start).put(body).flip();
  }

  private HttpResponse readAnswer(Deadline deadline) throws IOException {
    String status = line(deadline);
    String[] parts = status.split(" ", 3);
    if (parts.length < 2 || !parts[0].startsWith("HTTP/1.") || !parts[1].matches("[1-5]\\d\\d")) {
      throw new ProtocolException("not an HTTP answer: " + status);
    }
    int length = -1;
    boolean keep = parts[0].equals("HTTP/1.1");
    for (int headers = 0; ; headers++) {
      String header = line(deadline);
      if (header.isEmpty()) {
        break;
      }
      int colon = header.indexOf(':');
      if (colon < 0 || headers == MAX_HEADERS) {
        throw new ProtocolException("not an HTTP header: " + header);
      }
      String value = header.substring(colon + 1).strip();
      switch (header.substring(0, colon).toLowerCase(Locale.ROOT)) {
        case "content-length" -> length = parseLength(value);
        case "connection" -> keep &= !value.equalsIgnoreCase("close");
        default -> {}
      }
    }
    if (length < 0) {
      throw new ProtocolException("an answer without a content-length: " + status);
    }
    String body = body(length, deadline);
    reusable = keep;
    return new HttpResponse(Integer.parseInt(parts[1]), body);
  }

  private static int parseLength(String value) throws ProtocolException {
    if (!value.matches("\\d{1,8}") || Integer.parseInt(value) > MAX_BODY_BYTES) {
      throw new ProtocolException(
          "an answer of " + value + " bytes; at most " + MAX_BODY_BYTES + " are read");
    }
    return Integer.parseInt(value);
  }

  private String line(Deadline deadline) throws IOException {
    ByteArrayOutputStream line = new ByteArrayOutputStream();
    while (line.size() <= MAX_LINE_BYTES) {
      fill(deadline);
      byte next = input.get();
      if (next == '\n') {
        return line.toString(ISO_8859_1).stripTrailing();
      }
      line.write(next);
    }
    throw new ProtocolException("a header line of more than " + MAX_LINE_BYTES + " bytes");
  }

  private String body(int length, Deadline deadline) throws IOException {
    byte[] body = new byte[length];
    for (int at = 0; at < length; ) {
      fill(deadline);
      int count = Math.min(input.remaining(), length - at);
      input.get(body, at, count);
      at += count;
    }
    return new String(body, UTF_8);
  }

  /** Waits until at least one byte can be read. */
  private void fill(Deadline deadline) throws IOException {
    while (!input.hasRemaining()) {
      int count = channel.read(input.clear());
      input.flip();
      if (count < 0) {
        throw new EOFException("the sidecar hung up before its answer");
      }
      if (count == 0) {
        await(SelectionKey.OP_READ, deadline);
      }
    }
  }

  private void write(ByteBuffer output, Deadline deadline) throws IOException {
    while (output.hasRemaining()) {
      if (channel.write(output) == 0) {
        await(SelectionKey.OP_WRITE, deadline);
      }
    }
  }

  private void await(int operation, Deadline deadline) throws IOException {
    Duration left = deadline.left();
    if (left.isZero()) {
      throw new SocketTimeoutException("no answer in time");
    }
    key.interestOps(operation);
    selector.select(Math.max(1, left.toMillis()));
    selector.selectedKeys().clear();
    if (Thread.currentThread().isInterrupted()) {
      throw new InterruptedIOException("interrupted while waiting for the sidecar");
    }
  }
}
