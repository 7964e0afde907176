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

import com.google.common.flogger.FluentLogger;
import java.io.Closeable;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.Deque;

/** A pool of connections to the sidecar. */
final class Connections implements Closeable {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();

  /** The maximum number of idle connections. */
  private static final int MAX_IDLE = 32;

  private final Endpoint endpoint;
  private final Deque<HttpConnection> idle = new ArrayDeque<>();

  Connections(Endpoint endpoint) {
    this.endpoint = endpoint;
  }

  /** The request was not sent, so it had no effect. */
  static final class NotSentException extends IOException {
    NotSentException(IOException cause) {
      super(cause.getMessage(), cause);
    }
  }

  /**
   * Sends one copy of a request and reads the answer.
   *
   * @throws NotSentException the request was not sent
   * @throws IOException the answer was lost; whether the request had an effect is not known
   */
  HttpResponse exchange(String method, String target, String body, Deadline deadline)
      throws IOException {
    HttpConnection connection;
    HttpRequest request;
    try {
      request = new HttpRequest(method, target, endpoint.authorization(), body);
      connection = take();
    } catch (IOException e) {
      throw new NotSentException(e);
    }
    try {
      HttpResponse answer = connection.exchange(request, deadline);
      giveBack(connection);
      return answer;
    } catch (IOException e) {
      close(connection);
      throw e;
    }
  }

  @Override
  public synchronized void close() {
    idle.forEach(Connections::close);
    idle.clear();
  }

  private HttpConnection take() throws IOException {
    for (HttpConnection connection = pop(); connection != null; connection = pop()) {
      if (isAlive(connection)) {
        return connection;
      }
      close(connection);
    }
    return HttpConnection.open(endpoint);
  }

  private synchronized HttpConnection pop() {
    return idle.pollLast();
  }

  private void giveBack(HttpConnection connection) {
    synchronized (this) {
      if (idle.size() < MAX_IDLE) {
        idle.addLast(connection);
        return;
      }
    }
    close(connection);
  }

  private static boolean isAlive(HttpConnection connection) {
    try {
      return connection.isReusable();
    } catch (IOException e) {
      return false;
    }
  }

  private static void close(HttpConnection connection) {
    try {
      connection.close();
    } catch (IOException e) {
      logger.atFine().withCause(e).log("a connection to the sidecar did not close");
    }
  }
}
