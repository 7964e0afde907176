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

package io.lockstep.bridge.late;

import com.google.common.flogger.FluentLogger;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.sidecar.Doubt;
import io.lockstep.bridge.sidecar.Doubts;
import io.lockstep.bridge.sidecar.Loop;
import io.lockstep.bridge.sidecar.RefCommand;
import io.lockstep.bridge.sidecar.RefVerdict;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarError;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * Finds out what became of each update in doubt, and has the events fired of those that were
 * committed: each at most once, after its refs can be read and its changes are indexed. Of a change
 * its notes tell, of other refs the sidecar.
 */
@Singleton
public final class LateEvents {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();

  private final Sidecar sidecar;
  private final Doubts doubts;
  private final ChangeFates changes;
  private final Firing firing;
  private Loop loop;

  @Inject
  LateEvents(Sidecar sidecar, ChangeFates changes, Firing firing) {
    this.sidecar = sidecar;
    this.doubts = sidecar.doubts();
    this.changes = changes;
    this.firing = firing;
  }

  /** Begins to look up. */
  public void start() {
    loop = Loop.start("Lockstep-Late-Events", this::settleNext);
  }

  /** Looks up no more. */
  public void stop() {
    if (loop != null) {
      loop.stop();
    }
    if (doubts.size() > 0) {
      logger.atWarning().log(
          "of %d updates it is not known whether they were committed: no events of them",
          doubts.size());
    }
  }

  private void settleNext() throws IOException, InterruptedException {
    Doubt doubt = doubts.take();
    try {
      if (!settle(doubt)) {
        doubts.putBack(doubt);
      }
    } catch (IOException | RuntimeException e) {
      doubts.retry(doubt);
      throw e;
    }
  }

  /** Whether there is nothing left to do. */
  private boolean settle(Doubt doubt) throws IOException {
    Optional<List<RefCommand>> committed = find(doubt);
    if (committed.isEmpty()) {
      return false;
    }
    if (!committed.get().isEmpty()) {
      index(doubt, committed.get());
      fire(doubt, committed.get());
    }
    return true;
  }

  /** What of a batch was committed; nothing as long as it is not known. */
  private Optional<List<RefCommand>> find(Doubt doubt) throws IOException {
    Optional<RefCommand> notes =
        doubt.commands().stream().filter(ChangeFates::isOfNotes).findFirst();
    if (notes.isEmpty() || !doubt.isWhole()) {
      return ask(doubt);
    }
    return switch (changes.of(doubt.project(), notes.get())) {
      case COMMITTED -> Optional.of(doubt.commands());
      case OPEN -> Optional.empty();
      case NEVER -> Optional.of(List.of());
    };
  }

  private Optional<List<RefCommand>> ask(Doubt doubt) throws IOException {
    Optional<List<RefVerdict>> verdicts;
    try {
      verdicts = sidecar.lookUp(doubt);
    } catch (SidecarError refused) {
      if (refused.retry()) {
        throw refused;
      }
      logger.atSevere().log("request %s cannot be looked up: %s", doubt.id(), refused.getMessage());
      return Optional.of(List.of());
    }
    return verdicts.isEmpty()
        ? Optional.empty()
        : Optional.of(committed(doubt.commands(), verdicts.get()));
  }

  private static List<RefCommand> committed(List<RefCommand> commands, List<RefVerdict> verdicts)
      throws IOException {
    if (verdicts.size() != commands.size()) {
      throw new IOException(
          "the sidecar gave " + verdicts.size() + " verdicts on " + commands.size() + " commands");
    }
    List<RefCommand> committed = new ArrayList<>();
    for (int at = 0; at < commands.size(); at++) {
      if (verdicts.get(at).isCommitted()) {
        committed.add(commands.get(at));
      }
    }
    return committed;
  }

  private void index(Doubt doubt, List<RefCommand> committed) throws IOException {
    try {
      firing.index(doubt.project(), committed);
    } catch (Exception | LinkageError e) {
      throw new IOException("project " + doubt.project() + " cannot be indexed: " + e, e);
    }
  }

  /** What failed half way is not repeated: somebody may have heard of it. */
  private void fire(Doubt doubt, List<RefCommand> committed) {
    try {
      firing.fire(doubt.project(), committed, doubt.actor());
      logger.atInfo().log(
          "project %s, request %s was committed: its events are fired now",
          doubt.project(), doubt.id());
    } catch (Exception | LinkageError e) {
      logger.atSevere().withCause(e).log(
          "project %s, request %s was committed: not all events of it are fired",
          doubt.project(), doubt.id());
    }
  }
}
