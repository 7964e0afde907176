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

import com.google.common.collect.Lists;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.eclipse.jgit.errors.MissingObjectException;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.Repository;
import org.eclipse.jgit.revwalk.RevCommit;
import org.eclipse.jgit.revwalk.RevSort;
import org.eclipse.jgit.revwalk.RevWalk;

/**
 * The versions of a ref over which a refresh goes. A task names the first and the last one. A
 * version in between may be in the index or in a cache as well: Gerrit may have refreshed it before
 * it died, and its index may have kept that or lost it.
 */
final class Versions {
  private static final int MOST = 10_000;

  private Versions() {}

  /**
   * Returns all versions from the old one to the next one, in their order. The zero id stands for
   * "no ref". Empty if they are not known: the old version does not exist any more, or there are
   * too many.
   */
  static Optional<List<ObjectId>> between(Repository repository, RefreshTarget.Span span)
      throws IOException {
    List<ObjectId> versions = new ArrayList<>(List.of(span.old()));
    boolean isNew = span.old().equals(ObjectId.zeroId());
    if (span.next().equals(ObjectId.zeroId())) {
      versions.add(span.next());
      return Optional.of(versions);
    }
    try (RevWalk walk = new RevWalk(repository)) {
      RevCommit next = walk.parseCommit(span.next());
      if (!isNew) {
        RevCommit old = walk.parseCommit(span.old());
        if (!walk.isMergedInto(old, next)) {
          versions.add(next);
          return Optional.of(versions);
        }
        walk.reset();
        walk.markUninteresting(old);
      }
      walk.sort(RevSort.TOPO);
      walk.markStart(next);
      List<ObjectId> newestFirst = new ArrayList<>();
      for (RevCommit commit : walk) {
        newestFirst.add(commit.copy());
        if (newestFirst.size() > MOST) {
          return Optional.empty();
        }
      }
      versions.addAll(Lists.reverse(newestFirst));
      return Optional.of(versions);
    } catch (MissingObjectException e) {
      return Optional.empty();
    }
  }
}
