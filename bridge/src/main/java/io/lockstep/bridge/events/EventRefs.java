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

package io.lockstep.bridge.events;

import com.google.gerrit.common.Nullable;
import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.RefNames;
import com.google.gerrit.server.events.BatchRefUpdateEvent;
import com.google.gerrit.server.events.ChangeEvent;
import com.google.gerrit.server.events.ChangeMergedEvent;
import com.google.gerrit.server.events.Event;
import com.google.gerrit.server.events.PatchSetEvent;
import com.google.gerrit.server.events.ProjectEvent;
import com.google.gerrit.server.events.RefEvent;
import java.util.LinkedHashSet;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * The project, the change and the refs of an event. These must exist at a site before the event is
 * fired there.
 */
final class EventRefs {
  /** The maximum number of refs of an event. Of a larger batch only the first refs are sent. */
  private static final int MOST = 99;

  private EventRefs() {}

  /** The project, if the event has one. */
  @Nullable
  static String project(Event event) {
    return event instanceof ProjectEvent it ? it.getProjectNameKey().get() : null;
  }

  /** The number of the change, if the event has one. */
  @Nullable
  static Integer change(Event event) {
    return event instanceof ChangeEvent it ? it.change.get().number : null;
  }

  /** The refs, without those that each site computes for itself. */
  static Set<String> refs(Event event) {
    return all(event).stream()
        .filter(
            ref -> ref.startsWith(RefNames.REFS) && !ref.startsWith(RefNames.REFS_CACHE_AUTOMERGE))
        .limit(MOST)
        .collect(Collectors.toCollection(LinkedHashSet::new));
  }

  private static Set<String> all(Event event) {
    Set<String> refs = new LinkedHashSet<>();
    switch (event) {
      case ChangeEvent it -> {
        refs.add(RefNames.changeMetaRef(Change.id(it.change.get().number)));
        if (it instanceof PatchSetEvent patchSet) {
          refs.add(patchSet.patchSet.get().ref);
        }
        if (it instanceof ChangeMergedEvent) {
          refs.add(it.getRefName());
        }
      }
      case RefEvent it -> refs.add(it.getRefName());
      case BatchRefUpdateEvent it -> refs.addAll(it.getRefNames());
      default -> {}
    }
    return refs;
  }
}
