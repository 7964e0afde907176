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

package io.lockstep.bridge.indoubt;

import com.google.common.flogger.FluentLogger;
import com.google.gerrit.metrics.Counter0;
import com.google.gerrit.metrics.Description;
import com.google.gerrit.metrics.MetricMaker;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.sidecar.InDoubtUpdate;
import io.lockstep.bridge.sidecar.InDoubtUpdates;
import io.lockstep.bridge.sidecar.RefCommand;
import io.lockstep.bridge.sidecar.RefVerdict;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarError;
import io.lockstep.bridge.work.BackgroundLoop;
import io.lockstep.bridge.work.BridgeWorkQueue;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * Finds the outcome of each update in doubt, and has the events of the committed ones fired.
 *
 * <p>The outcome of an update of a change is in the change's notes; for other refs the sidecar is
 * asked. Events are fired at most once, after the refs can be read and the changes are indexed.
 */
@Singleton
public final class InDoubtResolver {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();

  private final Sidecar sidecar;
  private final InDoubtUpdates updates;
  private final BridgeWorkQueue work;
  private final ChangeOutcomes changes;
  private final PostUpdateActions actions;
  private final Counter0 notFired;
  private BackgroundLoop loop;

  @Inject
  InDoubtResolver(
      Sidecar sidecar,
      BridgeWorkQueue work,
      ChangeOutcomes changes,
      PostUpdateActions actions,
      MetricMaker metrics) {
    this.sidecar = sidecar;
    this.updates = sidecar.inDoubtUpdates();
    this.work = work;
    this.changes = changes;
    this.actions = actions;
    this.notFired =
        metrics.newCounter(
            "lockstep/updates_not_fired",
            new Description("Ref updates in doubt that were committed, and not all events fired")
                .setRate()
                .setUnit("updates"));
  }

  /** Begins to look for outcomes. */
  public void start() {
    loop = work.start("resolve updates in doubt", this::resolveNext);
  }

  /** Looks for no more outcomes. */
  public void stop() {
    if (loop != null) {
      loop.stop();
    }
    if (updates.size() > 0) {
      logger.atWarning().log(
          "it is not known whether %d updates were committed; no events are fired for them",
          updates.size());
    }
  }

  private void resolveNext() throws IOException, InterruptedException {
    InDoubtUpdate update = updates.take();
    try {
      if (!resolve(update)) {
        updates.putBack(update);
      }
    } catch (IOException | RuntimeException | Error e) {
      updates.retry(update);
      throw e;
    }
  }

  /** Returns whether there is nothing left to do for this update. */
  private boolean resolve(InDoubtUpdate update) throws IOException {
    Optional<List<RefCommand>> committed = findCommitted(update);
    if (committed.isEmpty()) {
      return false;
    }
    if (!committed.get().isEmpty()) {
      index(update, committed.get());
      fire(update, committed.get());
    }
    return true;
  }

  /** The commands that were committed; empty while that is not known. */
  private Optional<List<RefCommand>> findCommitted(InDoubtUpdate update) throws IOException {
    Optional<RefCommand> notes =
        update.commands().stream().filter(ChangeOutcomes::isOfNotes).findFirst();
    if (notes.isEmpty() || !update.isAllOrNothing()) {
      return askSidecar(update);
    }
    return switch (changes.of(update.project(), notes.get())) {
      case COMMITTED -> Optional.of(update.commands());
      case UNDECIDED -> Optional.empty();
      case NOT_COMMITTED -> Optional.of(List.of());
    };
  }

  private Optional<List<RefCommand>> askSidecar(InDoubtUpdate update) throws IOException {
    Optional<List<RefVerdict>> verdicts;
    try {
      verdicts = sidecar.lookUp(update);
    } catch (SidecarError refused) {
      if (refused.retry()) {
        throw refused;
      }
      updates.drop(update, refused.getMessage());
      return Optional.of(List.of());
    }
    return verdicts.isEmpty()
        ? Optional.empty()
        : Optional.of(committed(update.commands(), verdicts.get()));
  }

  private static List<RefCommand> committed(List<RefCommand> commands, List<RefVerdict> verdicts)
      throws IOException {
    if (verdicts.size() != commands.size()) {
      throw new IOException(
          "the sidecar gave %d verdicts on %d commands"
              .formatted(verdicts.size(), commands.size()));
    }
    List<RefCommand> committed = new ArrayList<>();
    for (int at = 0; at < commands.size(); at++) {
      if (verdicts.get(at).isCommitted()) {
        committed.add(commands.get(at));
      }
    }
    return committed;
  }

  private void index(InDoubtUpdate update, List<RefCommand> committed) throws IOException {
    try {
      actions.index(update.project(), committed);
    } catch (Exception | LinkageError e) {
      throw new IOException("project " + update.project() + " cannot be indexed: " + e, e);
    }
  }

  /** Events that failed half way are not fired again: listeners may have received some. */
  private void fire(InDoubtUpdate update, List<RefCommand> committed) {
    try {
      actions.fire(update.project(), committed, update.actor());
      logger.atInfo().log(
          "project %s, request %s was committed: its events are fired now",
          update.project(), update.id());
    } catch (Exception | LinkageError e) {
      notFired.increment();
      logger.atSevere().withCause(e).log(
          "project %s, request %s was committed: not all of its events are fired",
          update.project(), update.id());
    }
  }
}
