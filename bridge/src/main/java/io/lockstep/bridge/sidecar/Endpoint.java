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

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.StandardProtocolFamily;
import java.net.StandardSocketOptions;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;

/** Where the sidecar listens. */
public sealed interface Endpoint {
  /** Opens a new connection, which the caller closes. */
  SocketChannel connect() throws IOException;

  /**
   * The value of the {@code authorization} header, if one is needed. It is read for each call,
   * because tokens are rotated.
   */
  Optional<String> authorization() throws IOException;

  /** A Unix socket. The permissions of its folder control the access. */
  record Unix(Path socket) implements Endpoint {
    @Override
    public SocketChannel connect() throws IOException {
      SocketChannel channel = SocketChannel.open(StandardProtocolFamily.UNIX);
      return connected(channel, UnixDomainSocketAddress.of(socket));
    }

    @Override
    public Optional<String> authorization() {
      return Optional.empty();
    }

    @Override
    public String toString() {
      return "unix:" + socket;
    }
  }

  /** A loopback address, and the file with the bearer tokens, one per line. */
  record Tcp(InetSocketAddress address, Path tokenFile) implements Endpoint {
    @Override
    public SocketChannel connect() throws IOException {
      SocketChannel channel = SocketChannel.open();
      channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
      return connected(channel, address);
    }

    @Override
    public Optional<String> authorization() throws IOException {
      try (var lines = Files.lines(tokenFile)) {
        Optional<String> token =
            lines.map(String::strip).filter(line -> !line.isEmpty()).findFirst();
        return Optional.of(
            "Bearer " + token.orElseThrow(() -> new IOException(tokenFile + " has no token")));
      }
    }

    @Override
    public String toString() {
      return "http://" + address.getHostString() + ":" + address.getPort();
    }
  }

  private static SocketChannel connected(SocketChannel channel, SocketAddress to)
      throws IOException {
    try {
      channel.connect(to);
      channel.configureBlocking(false);
      return channel;
    } catch (IOException e) {
      channel.close();
      throw e;
    }
  }
}
