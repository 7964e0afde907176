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

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.eclipse.jgit.errors.ConfigInvalidException;
import org.eclipse.jgit.lib.Config;
import org.eclipse.jgit.lib.Constants;
import org.eclipse.jgit.lib.FileMode;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.Repository;
import org.eclipse.jgit.revwalk.RevWalk;
import org.eclipse.jgit.treewalk.EmptyTreeIterator;
import org.eclipse.jgit.treewalk.TreeWalk;
import org.eclipse.jgit.treewalk.filter.TreeFilter;

/**
 * The differences that the versions of a note tree make whose notes are configurations: external
 * ids, names of groups.
 */
final class ChangedNotes {
  private static final int MAX_NOTE_BYTES = 1 << 20;

  private ChangedNotes() {}

  /**
   * Returns the old and new content of every note that differs between two successive versions.
   * Only folders that differ are read. If the versions are not known, every note counts as new.
   */
  static List<Config> between(Repository repository, RefreshTarget.Span span) throws IOException {
    List<ObjectId> versions =
        Versions.between(repository, span).orElse(List.of(ObjectId.zeroId(), span.next()));
    List<Config> contents = new ArrayList<>();
    for (int at = 1; at < versions.size(); at++) {
      contents.addAll(differing(repository, versions.get(at - 1), versions.get(at)));
    }
    return contents;
  }

  private static List<Config> differing(Repository repository, ObjectId old, ObjectId next)
      throws IOException {
    List<Config> contents = new ArrayList<>();
    try (TreeWalk walk = new TreeWalk(repository)) {
      addTree(repository, walk, old);
      addTree(repository, walk, next);
      walk.setRecursive(true);
      walk.setFilter(TreeFilter.ANY_DIFF);
      while (walk.next()) {
        for (int side = 0; side < 2; side++) {
          if (FileMode.REGULAR_FILE.equals(walk.getRawMode(side))) {
            contents.add(content(repository, walk.getObjectId(side)));
          }
        }
      }
    }
    return contents;
  }

  private static void addTree(Repository repository, TreeWalk walk, ObjectId commit)
      throws IOException {
    if (commit.equals(ObjectId.zeroId())) {
      walk.addTree(new EmptyTreeIterator());
      return;
    }
    try (RevWalk commits = new RevWalk(repository)) {
      walk.addTree(commits.parseCommit(commit).getTree());
    }
  }

  /** A note that Gerrit cannot read counts as empty. */
  private static Config content(Repository repository, ObjectId blob) throws IOException {
    byte[] bytes = repository.open(blob, Constants.OBJ_BLOB).getCachedBytes(MAX_NOTE_BYTES);
    Config config = new Config();
    try {
      config.fromText(new String(bytes, StandardCharsets.UTF_8));
    } catch (ConfigInvalidException e) {
      return new Config();
    }
    return config;
  }
}
