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

import com.google.gerrit.server.config.ConfigUtil;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.eclipse.jgit.lib.Config;

/**
 * How long Gerrit's indexes keep an update in memory: {@code index.*.commitWithin}. A Gerrit that
 * is killed loses such updates, so the sidecar repeats the refreshes of at least this time.
 */
final class IndexCommits {
  private static final String SECTION = "index";
  private static final String KEY = "commitWithin";
  private static final Duration GERRITS_DEFAULT = Duration.ofMinutes(5);

  /** The longest time that the bridge API takes. */
  private static final Duration LONGEST = Duration.ofDays(1);

  /** The Lucene indexes of Gerrit, as it names them in its configuration. */
  private static final List<String> INDEXES =
      List.of("accounts", "changes_closed", "changes_open", "groups", "projects");

  private IndexCommits() {}

  /** Returns the longest time of all indexes. */
  static Duration within(Config config, List<String> problems) {
    Duration longest = Duration.ZERO;
    for (String index : INDEXES) {
      Duration one = Duration.ofMillis(millis(config, index));
      if (one.isNegative()) {
        problems.add(
            "index.%s.commitWithin is %s, so Gerrit writes this index to its disk only when it"
                    .formatted(index, config.getString(SECTION, index, KEY))
                + " stops, and loses it when it is killed; take the setting out, or give a time up"
                + " to 1 day");
      } else if (one.compareTo(LONGEST) > 0) {
        problems.add(
            "index.%s.commitWithin is %s; give a time up to 1 day"
                .formatted(index, config.getString(SECTION, index, KEY)));
      } else if (one.compareTo(longest) > 0) {
        longest = one;
      }
    }
    return longest;
  }

  /** Reads the setting as Gerrit's index does. */
  private static long millis(Config config, String index) {
    try {
      return ConfigUtil.getTimeUnit(
          config, SECTION, index, KEY, GERRITS_DEFAULT.toMillis(), TimeUnit.MILLISECONDS);
    } catch (IllegalArgumentException e) {
      return config.getLong(SECTION, index, KEY, 0);
    }
  }
}
