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

package io.lockstep.bridge.refresh;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.eclipse.jgit.dircache.DirCache;
import org.eclipse.jgit.dircache.DirCacheBuilder;
import org.eclipse.jgit.dircache.DirCacheEntry;
import org.eclipse.jgit.internal.storage.file.FileRepository;
import org.eclipse.jgit.lib.CommitBuilder;
import org.eclipse.jgit.lib.Config;
import org.eclipse.jgit.lib.Constants;
import org.eclipse.jgit.lib.FileMode;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.ObjectInserter;
import org.eclipse.jgit.lib.PersonIdent;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The differences between two versions of external ids. */
final class ChangedNotesTest {
  @TempDir Path folder;
  private FileRepository repository;

  @BeforeEach
  void create() throws Exception {
    repository = new FileRepository(folder.resolve("users.git").toFile());
    repository.create(true);
  }

  @AfterEach
  void close() {
    repository.close();
  }

  private ObjectId version(Map<String, String> notes) throws Exception {
    return version(notes, List.of());
  }

  private ObjectId version(Map<String, String> notes, List<ObjectId> parents) throws Exception {
    try (ObjectInserter inserter = repository.newObjectInserter()) {
      DirCache cache = DirCache.newInCore();
      DirCacheBuilder builder = cache.builder();
      for (Map.Entry<String, String> note : new TreeMap<>(notes).entrySet()) {
        DirCacheEntry entry = new DirCacheEntry(note.getKey());
        entry.setFileMode(FileMode.REGULAR_FILE);
        entry.setObjectId(inserter.insert(Constants.OBJ_BLOB, note.getValue().getBytes(UTF_8)));
        builder.add(entry);
      }
      builder.finish();
      CommitBuilder commit = new CommitBuilder();
      commit.setTreeId(cache.writeTree(inserter));
      commit.setParentIds(parents);
      commit.setAuthor(new PersonIdent("T", "t@example.com"));
      commit.setCommitter(commit.getAuthor());
      commit.setMessage("notes");
      ObjectId id = inserter.insert(commit);
      inserter.flush();
      return id;
    }
  }

  private static String note(int account) {
    return "[externalId \"username:u%1$d\"]\n\taccountId = %1$d\n".formatted(account);
  }

  private List<Integer> changed(ObjectId old, ObjectId next) throws Exception {
    return ChangedNotes.between(repository, new RefreshTarget.Span(old, next)).stream()
        .flatMap(note -> note.getSubsections("externalId").stream().map(key -> account(note, key)))
        .sorted()
        .toList();
  }

  private static int account(Config note, String key) {
    return note.getInt("externalId", key, "accountId", 0);
  }

  @Test
  void oldAndNewContentOfWhatDiffersIsFound() throws Exception {
    ObjectId old = version(Map.of("aa/1", note(1), "aa/2", note(2), "bb/3", note(3)));
    ObjectId next = version(Map.of("aa/1", note(1), "aa/2", note(20), "cc/4", note(4)));
    assertEquals(List.of(2, 3, 4, 20), changed(old, next));
    assertEquals(List.of(), changed(old, old));
  }

  @Test
  void aVersionThatIsNotThereIsEmpty() throws Exception {
    ObjectId some = version(Map.of("aa/1", note(1)));
    assertEquals(List.of(1), changed(ObjectId.zeroId(), some));
    assertEquals(List.of(1), changed(some, ObjectId.zeroId()));
    assertEquals(
        List.of(1), changed(ObjectId.fromString("deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"), some));
  }

  @Test
  void aNoteThatCameAndWentInBetweenIsFound() throws Exception {
    ObjectId old = version(Map.of("aa/1", note(1)));
    ObjectId middle = version(Map.of("aa/1", note(1), "aa/2", note(2)), List.of(old));
    ObjectId next = version(Map.of("aa/1", note(1), "bb/3", note(3)), List.of(middle));
    assertEquals(List.of(2, 2, 3), changed(old, next));
    assertEquals(List.of(1, 2, 2, 3), changed(ObjectId.zeroId(), next));
    assertEquals(List.of(3), changed(next, old));
  }

  @Test
  void aNoteThatCannotBeReadSaysNothing() throws Exception {
    ObjectId some = version(Map.of("aa/1", "[[[ no config", "aa/2", note(2)));
    assertEquals(List.of(2), changed(ObjectId.zeroId(), some));
  }
}
