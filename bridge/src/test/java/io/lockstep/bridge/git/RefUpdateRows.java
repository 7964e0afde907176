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

import static io.lockstep.bridge.git.Row.differs;
import static io.lockstep.bridge.git.Row.same;

import java.io.File;
import java.io.IOException;
import java.util.List;
import java.util.function.Function;
import org.eclipse.jgit.lib.Constants;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.RefRename;
import org.eclipse.jgit.lib.RefUpdate;

/** Every result of the update of a single ref. */
final class RefUpdateRows {
  private static final String MASTER = "refs/heads/master";
  private static final String TOPIC = "refs/heads/topic";
  private static final String NO_COMMIT =
      "git, which moves the refs of every site, keeps only commits on branches";

  private RefUpdateRows() {}

  private interface Act {
    void on(RefUpdate update) throws IOException;
  }

  /** Updates {@code topic}, which is {@code b} or does not exist, to a value. */
  private static Row.Scenario topic(
      boolean isThere, Function<RepositoryUnderTest, ObjectId> value, Act act) {
    return on -> {
      if (isThere) {
        on.have(TOPIC, on.b);
      }
      RefUpdate update = on.update(TOPIC, value.apply(on));
      act.on(update);
      return on.told(update);
    };
  }

  /** Deletes {@code topic}. A null new value is reported as zero. */
  private static Row.Scenario delete(boolean isThere, Act prepare) {
    return on -> {
      if (isThere) {
        on.have(TOPIC, on.b);
      }
      RefUpdate update = on.git.updateRef(TOPIC);
      prepare.on(update);
      update.delete();
      if (update.getNewObjectId() == null) {
        update.setNewObjectId(RepositoryUnderTest.ZERO);
      }
      return on.told(update);
    };
  }

  private static Row.Scenario rename(String from, String to, String... there) {
    return on -> {
      for (String name : there) {
        on.have(name, on.b);
      }
      RefRename rename = on.git.renameRef(from, to);
      return rename.rename() + " " + rename.getResult();
    };
  }

  private static Row.Scenario link(String name, String target) {
    return on -> {
      on.have(TOPIC, on.a);
      RefUpdate update = on.git.updateRef(name);
      update.link(target);
      return on.told(update);
    };
  }

  private static Row.Scenario create(String name, String... there) {
    return create(name, on -> on.a, there);
  }

  private static Row.Scenario create(
      String name, Function<RepositoryUnderTest, ObjectId> value, String... there) {
    return on -> {
      for (String one : there) {
        on.have(one, on.a);
      }
      RefUpdate update = on.update(name, value.apply(on));
      update.update();
      return update.getResult() + " " + name;
    };
  }

  static final List<Row> ROWS =
      List.of(
          same("create", topic(false, on -> on.a, RefUpdate::update)),
          same("create, forced", topic(false, on -> on.a, RefUpdate::forceUpdate)),
          same(
              "create what is there",
              topic(
                  true,
                  on -> on.c,
                  update -> {
                    update.setExpectedOldObjectId(RepositoryUnderTest.ZERO);
                    update.update();
                  })),
          same("fast-forward", topic(true, on -> on.c, RefUpdate::update)),
          same("back", topic(true, on -> on.a, RefUpdate::update)),
          same("unrelated", topic(true, on -> on.x, RefUpdate::update)),
          same("unrelated, forced", topic(true, on -> on.x, RefUpdate::forceUpdate)),
          same("no change", topic(true, on -> on.b, RefUpdate::update)),
          same("no change, forced", topic(true, on -> on.b, RefUpdate::forceUpdate)),
          same("a sequence, which is a blob", create("refs/sequences/changes", on -> on.blob)),
          differs(
              "a branch to a blob",
              topic(false, on -> on.blob, RefUpdate::update),
              "REJECTED",
              NO_COMMIT),
          same("from a commit to a blob", topic(true, on -> on.blob, RefUpdate::update)),
          differs(
              "from a commit to a blob, forced",
              topic(true, on -> on.blob, RefUpdate::forceUpdate),
              "REJECTED",
              NO_COMMIT),
          same(
              "a missing object",
              topic(true, on -> RepositoryUnderTest.NOWHERE, RefUpdate::forceUpdate)),
          same(
              "create with a missing object",
              topic(false, on -> RepositoryUnderTest.NOWHERE, RefUpdate::update)),
          same("expected old value", on -> expected(on, on.b)),
          same("unexpected old value", on -> expected(on, on.a)),
          same("expected to be absent", on -> expected(on, RepositoryUnderTest.ZERO)),
          same("delete", delete(true, update -> update.setForceUpdate(true))),
          same("delete, not forced", delete(true, update -> {})),
          same("delete what is not there", delete(false, update -> update.setForceUpdate(true))),
          same(
              "delete, expected old value is another",
              delete(
                  true,
                  update -> {
                    update.setForceUpdate(true);
                    update.setExpectedOldObjectId(RepositoryUnderTest.NOWHERE);
                  })),
          differs(
              "the new value of a deletion is zero",
              on -> {
                on.have(TOPIC, on.b);
                RefUpdate update = on.git.updateRef(TOPIC);
                update.setForceUpdate(true);
                update.delete();
                return update.getResult() + " " + update.getNewObjectId();
              },
              "FORCED " + RepositoryUnderTest.ZERO,
              "JGit leaves null, which callers of Gerrit trip over"),
          same("delete and create again", on -> deleteAndCreate(on)),
          same("below a ref", create("refs/heads/topic/a", TOPIC)),
          same("above a ref", create("refs/heads/topic", "refs/heads/topic/a")),
          same("beside a ref", create("refs/heads/topic-a", TOPIC)),
          same(
              "above a deleted ref",
              on -> {
                on.have("refs/heads/topic/a", on.a);
                RefUpdate delete = on.git.updateRef("refs/heads/topic/a");
                delete.setForceUpdate(true);
                delete.delete();
                return create("refs/heads/topic").run(on);
              }),
          differs(
              "a name of two parts",
              create("refs/topic"),
              "REJECTED",
              "it would exclude every name below it"),
          same("a change's patch set", create("refs/changes/34/1234/1")),
          differs(
              "a change in the wrong shard",
              create("refs/changes/35/1234/1"),
              "REJECTED",
              "changes are kept apart by their grammar"),
          same("a local ref", create("refs/cache-automerge/ab/cdef")),
          same("through HEAD", on -> throughHead(on, true)),
          same("through an unborn HEAD", on -> throughHead(on, false)),
          same("HEAD to a branch", link(Constants.HEAD, TOPIC)),
          same("HEAD to where it is", link(Constants.HEAD, MASTER)),
          same("HEAD to a branch that is not there", link(Constants.HEAD, "refs/heads/unborn")),
          differs(
              "a symbolic ref that is not HEAD",
              on -> link("refs/heads/link", TOPIC).run(on).split(" ")[0],
              "REJECTED_OTHER_REASON",
              "only HEAD is symbolic"),
          differs(
              "HEAD detached",
              on -> {
                on.have(MASTER, on.a);
                RefUpdate update = on.git.updateRef(Constants.HEAD, true);
                update.setNewObjectId(on.b);
                return update.forceUpdate().name();
              },
              "REJECTED_OTHER_REASON",
              "HEAD of a server's repository names a branch"),
          same("rename", rename(TOPIC, "refs/heads/other", TOPIC)),
          same("rename the branch that HEAD names", rename(MASTER, "refs/heads/main", MASTER)),
          same("rename onto a ref", rename(TOPIC, "refs/heads/other", TOPIC, "refs/heads/other")),
          same(
              "rename below a ref", rename(TOPIC, "refs/heads/other/a", TOPIC, "refs/heads/other")),
          differs(
              "rename below itself",
              rename(TOPIC, "refs/heads/topic/a", TOPIC),
              "LOCK_FAILURE LOCK_FAILURE",
              "deletion and creation are one transaction, and their names exclude each other"),
          differs(
              "the reflog of a branch",
              on -> {
                RefUpdate update = on.update(MASTER, on.a);
                update.setRefLogMessage("why", false);
                update.setForceRefLog(true);
                update.update();
                File log = new File(on.git.getDirectory(), "logs/" + MASTER);
                return update.getResult() + (log.exists() ? ", logged" : ", not logged");
              },
              "NEW, not logged",
              "git moves the ref, and logs none of a branch; the journal is the log"));

  private static String expected(RepositoryUnderTest on, ObjectId old) throws IOException {
    on.have(TOPIC, on.b);
    RefUpdate update = on.update(TOPIC, on.c);
    update.setExpectedOldObjectId(old);
    update.update();
    return on.told(update);
  }

  private static String deleteAndCreate(RepositoryUnderTest on) throws IOException {
    on.have(TOPIC, on.b);
    RefUpdate delete = on.git.updateRef(TOPIC);
    delete.setForceUpdate(true);
    delete.delete();
    RefUpdate create = on.update(TOPIC, on.a);
    create.setExpectedOldObjectId(RepositoryUnderTest.ZERO);
    create.update();
    return delete.getResult() + " " + on.told(create);
  }

  private static String throughHead(RepositoryUnderTest on, boolean isBorn) throws IOException {
    if (isBorn) {
      on.have(MASTER, on.a);
    }
    RefUpdate update = on.update(Constants.HEAD, on.b);
    update.update();
    return on.told(update);
  }
}
