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

package io.lockstep.bridge.git;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import org.eclipse.jgit.lib.BatchRefUpdate;
import org.eclipse.jgit.lib.CommitBuilder;
import org.eclipse.jgit.lib.Constants;
import org.eclipse.jgit.lib.NullProgressMonitor;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.ObjectInserter;
import org.eclipse.jgit.lib.PersonIdent;
import org.eclipse.jgit.lib.Ref;
import org.eclipse.jgit.lib.RefUpdate;
import org.eclipse.jgit.lib.Repository;
import org.eclipse.jgit.lib.TreeFormatter;
import org.eclipse.jgit.revwalk.RevWalk;
import org.eclipse.jgit.transport.ReceiveCommand;

/**
 * A repository under test with the same objects each time: {@code a <- b <- c}, {@code x} without a
 * relation to them, a blob. The result of a scenario is a text, so that two repositories can be
 * compared.
 */
final class RepositoryUnderTest {
  static final ObjectId ZERO = ObjectId.zeroId();
  static final ObjectId NOWHERE = ObjectId.fromString("deadbeefdeadbeefdeadbeefdeadbeefdeadbeef");
  private static final PersonIdent WHO =
      new PersonIdent("T", "t@example.com", Instant.ofEpochSecond(1_800_000_000L), ZoneOffset.UTC);

  final Repository git;
  final ObjectId a;
  final ObjectId b;
  final ObjectId c;
  final ObjectId x;
  final ObjectId blob;

  RepositoryUnderTest(Repository git) throws IOException {
    this.git = git;
    try (ObjectInserter inserter = git.newObjectInserter()) {
      ObjectId tree = inserter.insert(new TreeFormatter());
      a = commit(inserter, tree, "a");
      b = commit(inserter, tree, "b", a);
      c = commit(inserter, tree, "c", b);
      x = commit(inserter, tree, "x");
      blob = inserter.insert(Constants.OBJ_BLOB, "17".getBytes(UTF_8));
      inserter.flush();
    }
  }

  private static ObjectId commit(
      ObjectInserter inserter, ObjectId tree, String text, ObjectId... parents) throws IOException {
    CommitBuilder commit = new CommitBuilder();
    commit.setTreeId(tree);
    commit.setParentIds(parents);
    commit.setAuthor(WHO);
    commit.setCommitter(WHO);
    commit.setMessage(text);
    return inserter.insert(commit);
  }

  /** Creates a ref before the scenario. */
  void have(String name, ObjectId value) throws IOException {
    RefUpdate update = git.updateRef(name);
    update.setNewObjectId(value);
    if (update.forceUpdate() != RefUpdate.Result.NEW) {
      throw new IllegalStateException(name + " is " + update.getResult());
    }
  }

  RefUpdate update(String name, ObjectId value) throws IOException {
    RefUpdate update = git.updateRef(name);
    update.setNewObjectId(value);
    return update;
  }

  /** The result of an executed update, with its old and new values. */
  String told(RefUpdate update) {
    return "%s %s %s->%s"
        .formatted(
            update.getResult(),
            update.getName(),
            name(update.getOldObjectId()),
            name(update.getNewObjectId()));
  }

  /** Executes a batch. Returns the result of each command. */
  String told(boolean atomic, boolean force, ReceiveCommand... commands) throws IOException {
    BatchRefUpdate batch = git.getRefDatabase().newBatchUpdate();
    batch.setAtomic(atomic);
    batch.setAllowNonFastForwards(force);
    batch.addCommand(commands);
    return told(batch);
  }

  String told(BatchRefUpdate batch) throws IOException {
    try (RevWalk walk = new RevWalk(git)) {
      batch.execute(walk, NullProgressMonitor.INSTANCE);
    }
    List<String> lines = new ArrayList<>();
    for (ReceiveCommand command : batch.getCommands()) {
      String aborted = ReceiveCommand.isTransactionAborted(command) ? " (aborted)" : "";
      lines.add("%s %s%s".formatted(command.getRefName(), command.getResult(), aborted));
    }
    return String.join("\n", lines);
  }

  /** All refs, and the target of {@code HEAD}. */
  String refs() throws IOException {
    List<String> lines = new ArrayList<>();
    lines.add("HEAD " + git.exactRef(Constants.HEAD).getTarget().getName());
    for (Ref ref : git.getRefDatabase().getRefs()) {
      if (!ref.getName().equals(Constants.HEAD)) {
        lines.add(ref.getName() + " " + name(ref.getObjectId()));
      }
    }
    lines.sort(null);
    return String.join("\n", lines);
  }

  private String name(ObjectId id) {
    return id == null ? "none" : id.equals(ZERO) ? "zero" : id.abbreviate(8).name();
  }
}
