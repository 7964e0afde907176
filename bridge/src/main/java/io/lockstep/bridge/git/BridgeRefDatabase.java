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

import com.google.common.base.Predicate;
import com.google.common.collect.Maps;
import com.google.common.collect.Sets;
import io.lockstep.bridge.JGitCompatibility;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.eclipse.jgit.lib.BatchRefUpdate;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.Ref;
import org.eclipse.jgit.lib.RefRename;
import org.eclipse.jgit.lib.RefUpdate;

/**
 * Reads refs through JGit, with all of its fast paths, and creates updates whose last step is a
 * commit by the sidecar.
 */
final class BridgeRefDatabase extends JGitCompatibility.RefDatabase {
  /**
   * The sidecar's own refs. They protect old values from garbage collection, and are hidden from
   * everybody.
   */
  private static final String OWN = "refs/lockstep/";

  private static final Predicate<Ref> VISIBLE = ref -> !ref.getName().startsWith(OWN);

  private final BridgeRepository repository;
  private final ProjectRefs project;

  BridgeRefDatabase(BridgeRepository repository, ProjectRefs project) {
    super(repository.delegate());
    this.repository = repository;
    this.project = project;
  }

  BridgeRepository repository() {
    return repository;
  }

  ProjectRefs project() {
    return project;
  }

  @Override
  public RefUpdate newUpdate(String name, boolean detach) throws IOException {
    return newUpdate(name, detach, project::commit);
  }

  BridgeRefUpdate newUpdate(String name, boolean detach, BridgeRefUpdate.Step step)
      throws IOException {
    return new BridgeRefUpdate(this, super.newUpdate(name, detach), step);
  }

  @Override
  public RefRename newRename(String from, String to) throws IOException {
    return new BridgeRefRename(
        this, newUpdate(from, false, project::commit), newUpdate(to, false, project::commit));
  }

  @Override
  public BatchRefUpdate newBatchUpdate() {
    return new BridgeBatchRefUpdate(this);
  }

  @Override
  public boolean performsAtomicTransactions() {
    return true;
  }

  @Override
  public List<Ref> getRefs() throws IOException {
    return visible(super.getRefs());
  }

  @Override
  @Deprecated
  public Map<String, Ref> getRefs(String prefix) throws IOException {
    return mayIncludeOwn(prefix)
        ? Maps.filterValues(super.getRefs(prefix), VISIBLE)
        : super.getRefs(prefix);
  }

  @Override
  public List<Ref> getRefsByPrefix(String prefix) throws IOException {
    return mayIncludeOwn(prefix)
        ? visible(super.getRefsByPrefix(prefix))
        : super.getRefsByPrefix(prefix);
  }

  @Override
  public List<Ref> getRefsByPrefix(String... prefixes) throws IOException {
    return visible(super.getRefsByPrefix(prefixes));
  }

  @Override
  public List<Ref> getRefsByPrefixWithExclusions(String include, Set<String> excludes)
      throws IOException {
    return visible(super.getRefsByPrefixWithExclusions(include, excludes));
  }

  @Override
  public Set<Ref> getTipsWithSha1(ObjectId id) throws IOException {
    return Sets.filter(super.getTipsWithSha1(id), VISIBLE);
  }

  private static boolean mayIncludeOwn(String prefix) {
    return OWN.startsWith(prefix) || prefix.startsWith(OWN);
  }

  private static List<Ref> visible(List<Ref> all) {
    return all.stream().filter(VISIBLE).toList();
  }
}
