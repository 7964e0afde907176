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

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.eclipse.jgit.lib.ObjectId;

/**
 * The transactions that committed the latest values of refs, by value. A push to {@code refs/for/}
 * names none of the refs that it makes, but the value of one of them.
 *
 * <p>If the same value is committed to two projects at once, the later transaction is kept.
 */
final class RecentTransactions {
  static final int MAX_VALUES = 1_000;

  /** The most values of one batch that are kept, so that a large one does not displace others. */
  static final int MAX_OF_BATCH = 100;

  private final Map<ObjectId, String> byValue =
      new LinkedHashMap<>() {
        @Override
        protected boolean removeEldestEntry(Map.Entry<ObjectId, String> eldest) {
          return size() > MAX_VALUES;
        }
      };

  /** Keeps the transaction of the commands that were committed. */
  synchronized void add(String transaction, List<RefCommand> commands, List<RefVerdict> verdicts) {
    int most = Math.min(MAX_OF_BATCH, commands.size());
    for (int i = 0; i < most; i++) {
      RefCommand command = commands.get(i);
      if (verdicts.get(i).isCommitted() && !command.isDeletion()) {
        ObjectId value = command.next().copy();
        byValue.remove(value);
        byValue.put(value, transaction);
      }
    }
  }

  /** The transaction that committed a value last; empty if that is too long ago. */
  synchronized Optional<String> of(ObjectId value) {
    return Optional.ofNullable(byValue.get(value));
  }
}
