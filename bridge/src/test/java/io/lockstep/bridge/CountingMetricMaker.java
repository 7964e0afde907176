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

import com.google.gerrit.metrics.Counter0;
import com.google.gerrit.metrics.Counter1;
import com.google.gerrit.metrics.Description;
import com.google.gerrit.metrics.DisabledMetricMaker;
import com.google.gerrit.metrics.Field;
import com.google.gerrit.metrics.Timer1;
import com.google.gerrit.metrics.Timer2;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/** Counts the updates of counters and timers. */
public final class CountingMetricMaker extends DisabledMetricMaker {
  private final Map<String, Long> counts = new ConcurrentHashMap<>();

  /** The count of a metric with its field values: {@code name/value}. */
  public long count(String name) {
    return counts.getOrDefault(name, 0L);
  }

  private void add(long count, Object... parts) {
    String key = Arrays.stream(parts).map(Object::toString).collect(Collectors.joining("/"));
    counts.merge(key, count, Long::sum);
  }

  @Override
  public Counter0 newCounter(String name, Description description) {
    return new Counter0() {
      @Override
      public void incrementBy(long count) {
        add(count, name);
      }

      @Override
      public void remove() {}
    };
  }

  @Override
  public <F1> Counter1<F1> newCounter(String name, Description description, Field<F1> field) {
    return new Counter1<>() {
      @Override
      public void incrementBy(F1 value, long count) {
        add(count, name, value);
      }

      @Override
      public void remove() {}
    };
  }

  @Override
  public <F1> Timer1<F1> newTimer(String name, Description description, Field<F1> field) {
    return new Timer1<>(name, field) {
      @Override
      protected void doRecord(F1 value, long time, TimeUnit unit) {
        add(1, name, value);
      }

      @Override
      public void remove() {}
    };
  }

  @Override
  public <F1, F2> Timer2<F1, F2> newTimer(
      String name, Description description, Field<F1> field1, Field<F2> field2) {
    return new Timer2<>(name, field1, field2) {
      @Override
      protected void doRecord(F1 value1, F2 value2, long time, TimeUnit unit) {
        add(1, name, value1, value2);
      }

      @Override
      public void remove() {}
    };
  }
}
