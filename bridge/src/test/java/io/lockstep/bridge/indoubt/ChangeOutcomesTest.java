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

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.lockstep.bridge.sidecar.RefCommand;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.eclipse.jgit.internal.storage.file.FileRepository;
import org.eclipse.jgit.lib.CommitBuilder;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.ObjectInserter;
import org.eclipse.jgit.lib.PersonIdent;
import org.eclipse.jgit.lib.RefUpdate;
import org.eclipse.jgit.lib.TreeFormatter;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The outcome of an update, found in the notes of a change. */
final class ChangeOutcomesTest {
  private static final String META = "refs/changes/01/1/meta";
  private static final ObjectId ZERO = ObjectId.zeroId();

  @TempDir Path folder;
  private FileRepository repository;

  @BeforeEach
  void create() throws IOException {
    repository = new FileRepository(folder.resolve("p.git").toFile());
    repository.create(true);
  }

  @AfterEach
  void close() {
    repository.close();
  }

  private ObjectId commit(String text, ObjectId... parents) throws IOException {
    try (ObjectInserter inserter = repository.newObjectInserter()) {
      CommitBuilder commit = new CommitBuilder();
      commit.setTreeId(inserter.insert(new TreeFormatter()));
      commit.setParentIds(parents);
      commit.setAuthor(new PersonIdent("T", "t@example.com"));
      commit.setCommitter(commit.getAuthor());
      commit.setMessage(text);
      ObjectId id = inserter.insert(commit);
      inserter.flush();
      return id;
    }
  }

  private void show(ObjectId value) throws IOException {
    RefUpdate update = repository.updateRef(META);
    update.setNewObjectId(value);
    update.forceUpdate();
  }

  private UpdateOutcome fate(ObjectId old, ObjectId next) throws IOException {
    return ChangeOutcomes.of(repository, new RefCommand(META, old, next));
  }

  @Test
  void anUpdateIsOpenUntilTheNotesMove() throws IOException {
    ObjectId one = commit("one");
    ObjectId two = commit("two", one);
    assertEquals(UpdateOutcome.UNDECIDED, fate(ZERO, one));
    show(one);
    assertEquals(UpdateOutcome.COMMITTED, fate(ZERO, one));
    assertEquals(UpdateOutcome.UNDECIDED, fate(one, two));
    show(two);
    assertEquals(UpdateOutcome.COMMITTED, fate(one, two));
  }

  @Test
  void laterNotesDoNotChangeTheOutcome() throws IOException {
    ObjectId one = commit("one");
    ObjectId two = commit("two", one);
    ObjectId other = commit("other", one);
    show(commit("three", two));
    assertEquals(UpdateOutcome.COMMITTED, fate(ZERO, one));
    assertEquals(UpdateOutcome.COMMITTED, fate(one, two));
    assertEquals(UpdateOutcome.NOT_COMMITTED, fate(one, other));
  }

  @Test
  void ofAChangeThatWasDeletedThereIsNothingToTell() throws IOException {
    ObjectId one = commit("one");
    assertEquals(UpdateOutcome.NOT_COMMITTED, fate(one, commit("two", one)));
  }

  @Test
  void onlyTheNotesOfAChangeTell() {
    ObjectId value = ObjectId.fromString("8e61b46ca5eec1b00746d09badd63fc9dd690c10");
    assertTrue(ChangeOutcomes.isOfNotes(new RefCommand(META, value, value)));
    assertFalse(ChangeOutcomes.isOfNotes(new RefCommand(META, value, ZERO)));
    for (String other :
        List.of(
            "refs/changes/01/1/1",
            "refs/changes/02/1/meta",
            "refs/heads/meta",
            "refs/meta/config")) {
      assertFalse(ChangeOutcomes.isOfNotes(new RefCommand(other, value, value)), other);
    }
  }
}
