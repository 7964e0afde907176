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

import io.lockstep.bridge.sidecar.Endpoint;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.eclipse.jgit.lib.Config;

/**
 * The settings of the bridge in {@code gerrit.config}, and the settings of Gerrit that it depends
 * on. All errors are reported at once.
 *
 * @param endpoint where the sidecar listens
 * @param timeout how long an update waits for its outcome
 * @param commitWithin how long Gerrit's index may keep an update in memory
 */
public record BridgeSettings(Endpoint endpoint, Duration timeout, Duration commitWithin) {
  static final String SECTION = "lockstep";
  private static final Duration DEFAULT_TIMEOUT = Duration.ofSeconds(15);

  /**
   * Reads and checks the settings.
   *
   * @param config Gerrit's configuration
   * @param site the site's folder, the base of relative paths
   * @throws IllegalStateException with one line per wrong setting, each with its value and what to
   *     write instead
   */
  public static BridgeSettings read(Config config, Path site) {
    List<String> problems = new ArrayList<>();
    checkGerrit(config, problems);
    Endpoint endpoint = endpoint(config, site, problems);
    Duration timeout = timeout(config, problems);
    Duration commitWithin = IndexCommits.within(config, problems);
    if (!problems.isEmpty()) {
      throw new IllegalStateException(
          "gerrit.config: " + String.join("\ngerrit.config: ", problems));
    }
    return new BridgeSettings(endpoint, timeout, commitWithin);
  }

  /**
   * Checks settings of Gerrit that would make it show values that are not committed, or hide
   * committed ones.
   */
  private static void checkGerrit(Config config, List<String> problems) {
    if (config.getBoolean("core", null, "usePerRequestRefCache", true)) {
      problems.add(
          "core.usePerRequestRefCache is true (its default); set it to false: the sidecar moves"
              + " refs beside it");
    }
    if (config.getString("repository", null, "basePath") != null) {
      problems.add(
          "repository.basePath is set without a subsection, and Gerrit takes it for every project"
              + " that no section repository.<projects> fits; take it out, and write"
              + " gerrit.basePath (or a section [repository \"*\"])");
    }
  }

  private static Endpoint endpoint(Config config, Path site, List<String> problems) {
    String socket = config.getString(SECTION, null, "socket");
    String url = config.getString(SECTION, null, "url");
    if ((socket == null) == (url == null)) {
      problems.add(
          "give either lockstep.socket (the sidecar's api.socket) or lockstep.url (http:// and its"
              + " api.listen)");
      return null;
    }
    return socket != null
        ? new Endpoint.Unix(site.resolve(socket))
        : tcp(config, site, url, problems);
  }

  private static Endpoint tcp(Config config, Path site, String url, List<String> problems) {
    String tokenFile = config.getString(SECTION, null, "tokenFile");
    if (tokenFile == null) {
      problems.add("lockstep.tokenFile is missing; give the path of the sidecar's api.token_file");
    }
    URI address = parse(url);
    if (address == null || !"http".equals(address.getScheme()) || address.getPort() < 0) {
      problems.add("lockstep.url is %s; give http://127.0.0.1:<port>".formatted(url));
      return null;
    }
    InetSocketAddress to = new InetSocketAddress(address.getHost(), address.getPort());
    if (to.isUnresolved() || !to.getAddress().isLoopbackAddress()) {
      problems.add(
          "lockstep.url is %s, which is not the loopback; the token travels in the clear"
              .formatted(url));
    }
    return tokenFile == null ? null : new Endpoint.Tcp(to, site.resolve(tokenFile));
  }

  private static URI parse(String url) {
    try {
      return URI.create(url);
    } catch (IllegalArgumentException e) {
      return null;
    }
  }

  private static Duration timeout(Config config, List<String> problems) {
    String text = config.getString(SECTION, null, "timeout");
    if (text != null && !text.matches("\\d+ *(ms|s|sec|seconds?|min|m|minutes?)")) {
      problems.add("lockstep.timeout is %s; give a time such as 15 s".formatted(text));
      return DEFAULT_TIMEOUT;
    }
    long millis =
        config.getTimeUnit(
            SECTION, null, "timeout", DEFAULT_TIMEOUT.toMillis(), TimeUnit.MILLISECONDS);
    if (millis < 2_000 || millis > 600_000) {
      problems.add("lockstep.timeout is %d ms; give 2 s to 10 min".formatted(millis));
    }
    return Duration.ofMillis(millis);
  }
}
